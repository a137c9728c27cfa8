//! Shared by all connections of a session: the clients and the memory.

use jumpstarter_protocol::Memory;
use tokio_util::task::TaskTracker;

use crate::clients::Clients;
use crate::crowd::{Crowd, Place};
use crate::limits::{Limits, Promises};
use crate::peer::Standing;

#[derive(Debug)]
pub(crate) struct Connections {
    /// The connected clients.
    pub(crate) clients: Clients,
    pub(crate) crowd: Crowd,
    /// The memory for messages.
    memory: Memory,
    /// The memory for unread data.
    pub(crate) windows: Promises,
    /// The most that one connection may hold of either.
    pub(crate) half_bytes: usize,
    /// The open connections and their calls.
    pub(crate) open: TaskTracker,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        let half = limits.total_bytes / 2;
        Self {
            clients: Clients::default(),
            crowd: Crowd::new(),
            memory: Memory::new(half),
            windows: Promises::new(half),
            half_bytes: limits.connection_bytes / 2,
            open: TaskTracker::new(),
        }
    }

    /// The standing of a new connection.
    pub(crate) fn standing(&self, place: Place) -> Standing {
        Standing::new(place, self.memory.connection(self.half_bytes))
    }
}
