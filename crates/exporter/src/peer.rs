//! The peer of a connection, and its state across its calls.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jumpstarter_protocol::Budget;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clients::{Clients, Membership};
use crate::crowd::Place;
use crate::watched::OPENING_LIMIT;
use crate::windows::NEAR_STREAM;

/// The peer of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Whether it uses the socket that only this exporter's hooks know.
    pub(crate) is_hook: bool,
    pub(crate) standing: Arc<Standing>,
}

impl Peer {
    /// Admits a call of this peer.
    pub(crate) fn admit(&self, clients: &Clients) {
        if self.standing.membership.admit(clients, self.is_hook, self.address) {
            if let Some(place) = &self.standing.place {
                place.admit();
            }
            self.standing.admitted.notify_one();
        }
    }
}

/// The state of a connection across its calls.
#[derive(Debug)]
pub(crate) struct Standing {
    /// When the connection was accepted.
    pub(crate) opened: Instant,
    /// Whether a call was admitted.
    pub(crate) membership: Membership,
    pub(crate) admitted: Notify,
    pub(crate) place: Option<Place>,
    /// The number of its resources that wait for their calls.
    pub(crate) waiting_resources: AtomicUsize,
    /// The number of its running byte streams.
    pub(crate) streams: AtomicUsize,
    /// The memory for its messages.
    pub(crate) budget: Budget,
    /// The largest flow-control window of its streams.
    pub(crate) largest_stream_window: u32,
    /// How long it may last without an admitted call.
    pub(crate) first_call_limit: Duration,
    /// How long the start of HTTP/2 may take.
    pub(crate) opening_limit: Duration,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            membership: Membership::default(),
            admitted: Notify::new(),
            place: None,
            waiting_resources: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            budget: Budget::default(),
            largest_stream_window: NEAR_STREAM,
            first_call_limit: Duration::from_secs(30),
            opening_limit: OPENING_LIMIT,
        }
    }
}

impl Standing {
    /// The state of a new connection.
    pub(crate) fn new(place: Place, budget: Budget) -> Self {
        Self { place: Some(place), budget, ..Self::default() }
    }

    /// Waits until the connection must give way to others.
    pub(crate) async fn crowded_out(&self) {
        match &self.place {
            Some(place) => place.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// Counts a running byte stream.
pub(crate) struct Running(Arc<Standing>);

impl Running {
    pub(crate) fn new(standing: &Arc<Standing>) -> Self {
        standing.streams.fetch_add(1, Ordering::Relaxed);
        Self(standing.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
