//! The statistics of a forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::channel::Counters;
use serde::Serialize;

/// The statistics of a [`PortForward`](crate::PortForward).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ForwardStats {
    /// Connections accepted since the start; for UDP, local peers, each time that they begin.
    pub connections: u64,
    /// Connections open now.
    pub active: u64,
    /// Bytes passed on to the device, all connections together.
    pub bytes_to_device: u64,
    /// Bytes passed on from the device.
    pub bytes_from_device: u64,
    /// Connections that failed: the device could not be reached, or one side broke.
    pub failures: u64,
    /// Datagrams of local peers that were dropped: the device is too slow, or there are too many
    /// peers.
    pub dropped_datagrams: u64,
    /// The reason of the last failure.
    pub last_error: Option<String>,
}

/// The live numbers behind [`ForwardStats`], shared by the connections.
#[derive(Debug, Default)]
pub(crate) struct LiveStats {
    connections: AtomicU64,
    active: AtomicU64,
    pub(crate) bytes: Counters,
    failures: AtomicU64,
    dropped_datagrams: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl LiveStats {
    pub(crate) fn snapshot(&self) -> ForwardStats {
        ForwardStats {
            connections: self.connections.load(Ordering::Relaxed),
            active: self.active.load(Ordering::Relaxed),
            bytes_to_device: self.bytes.first_to_second(),
            bytes_from_device: self.bytes.second_to_first(),
            failures: self.failures.load(Ordering::Relaxed),
            dropped_datagrams: self.dropped_datagrams.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(crate) fn failed(&self, error: &Error) {
        tracing::warn!(error = %format_args!("{error:#}"), "forwarded connection failed");
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.report());
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.dropped_datagrams.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn opened(&self) -> impl Drop + '_ {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        Open(&self.active)
    }
}

struct Open<'a>(&'a AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
