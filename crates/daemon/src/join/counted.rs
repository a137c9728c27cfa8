//! What an exporter counts while it is joined to a controller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Whether the controller answers.
    pub(crate) is_connected: bool,
    /// How often it has begun to answer.
    pub(crate) connections: u64,
    /// Leases that have begun.
    pub(crate) leases: u64,
    /// The lease that is served, and its client.
    pub(crate) lease: Option<(String, String)>,
    pub(crate) open_tunnels: u64,
    /// Tunnels that were opened.
    pub(crate) tunnels: u64,
    /// Tunnels that had no call, and were closed.
    pub(crate) silent_tunnels: u64,
    /// Tunnels that could not be opened.
    pub(crate) failed_tunnels: u64,
    /// States that the controller has received.
    pub(crate) reports: u64,
    /// States that could not be reported.
    pub(crate) failed_reports: u64,
}

/// Shared counts. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<Counts>>);

impl Counted {
    pub(crate) fn get(&self) -> Counts {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
    }

    /// Counts a tunnel as open until the returned value is dropped.
    pub(super) fn tunnel(&self) -> OpenTunnel {
        self.change(|counts| {
            counts.tunnels += 1;
            counts.open_tunnels += 1;
        });
        OpenTunnel(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a tunnel as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenTunnel(Counted);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.change(|counts| counts.open_tunnels -= 1);
    }
}
