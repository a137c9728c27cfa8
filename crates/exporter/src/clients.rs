//! The connected clients: connections with an admitted call.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::visits::{Visit, Visits};

/// How long it may take to notice that a client has left.
const LEAVING_LIMIT: Duration = Duration::from_secs(1);

/// The number of clients of a session. Hooks are part of the exporter and do not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<watch::Sender<usize>>, Visits);

impl Clients {
    /// Counts a client until the returned value is dropped.
    fn enter(&self, address: Option<IpAddr>) -> Client {
        self.0.send_modify(|count| *count += 1);
        Client { clients: self.clone(), _visit: self.1.begin(address) }
    }

    /// Waits until no client is connected.
    pub(crate) async fn all_left(&self) {
        // It fails only if the number can never change again.
        drop(self.0.subscribe().wait_for(|count| *count == 0).await);
    }

    /// The number of clients beside `own`. Clients that are leaving get a moment to do so.
    pub(crate) async fn others(&self, own: usize) -> usize {
        let mut count = self.0.subscribe();
        let alone = count.wait_for(|count| *count <= own);
        // The count shows whether they left in time.
        drop(tokio::time::timeout(LEAVING_LIMIT, alone).await);
        self.0.borrow().saturating_sub(own)
    }
}

/// One client, while its connection is open.
#[derive(Debug)]
struct Client {
    clients: Clients,
    _visit: Option<Visit>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.0.send_modify(|count| *count -= 1);
    }
}

/// The role of a connection.
#[derive(Debug, Default)]
enum Place {
    /// No call was admitted on it.
    #[default]
    Stranger,
    Client {
        _counted: Option<Client>,
    },
    Closed,
}

/// The state of one connection, from its first byte to its end.
#[derive(Debug, Default)]
pub(crate) struct Membership(Mutex<Place>);

impl Membership {
    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call. The first one makes the connection a client's, which counts unless it is a
    /// hook's; returns true for that one.
    pub(crate) fn admit(&self, clients: &Clients, is_hook: bool, address: Option<IpAddr>) -> bool {
        let mut place = self.place();
        let is_first = matches!(*place, Place::Stranger);
        if is_first {
            *place = Place::Client { _counted: (!is_hook).then(|| clients.enter(address)) };
        }
        is_first
    }

    /// Whether no call was admitted yet.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(*self.place(), Place::Stranger)
    }

    /// Ends the membership; calls that end later change nothing.
    pub(crate) fn close(&self) {
        *self.place() = Place::Closed;
    }
}
