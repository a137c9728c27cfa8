//! The limits of the exporter's memory for clients and strangers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory that connections may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) connection_bytes: usize,
    pub(crate) total_bytes: usize,
}

impl Limits {
    /// Sets the bytes that one connection may hold: half for unread data, half for messages that
    /// are incomplete or in use. The share that each stream always has is not counted.
    #[must_use]
    pub fn connection_bytes(mut self, bytes: usize) -> Self {
        self.connection_bytes = bytes;
        self
    }

    /// Sets the same limit for all connections together.
    #[must_use]
    pub fn total_bytes(mut self, bytes: usize) -> Self {
        self.total_bytes = bytes;
        self
    }
}

impl Default for Limits {
    /// 128 MiB for a connection. For all of them a quarter of the machine's memory, at most 1 GiB.
    fn default() -> Self {
        let machine = machine_bytes().unwrap_or(2 << 30);
        Self { connection_bytes: 128 << 20, total_bytes: (machine / 4).min(1 << 30) }
    }
}

/// The memory of this machine.
#[cfg(target_os = "linux")]
fn machine_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(not(target_os = "linux"))]
fn machine_bytes() -> Option<usize> {
    None
}

/// Bytes that can be promised to connections.
#[derive(Clone, Debug)]
pub(crate) struct Promises(Arc<AtomicUsize>);

impl Promises {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Promises that many bytes until the returned value is dropped; `None` if too many are
    /// promised.
    pub(crate) fn make(&self, bytes: usize) -> Option<Promise> {
        let rest = |left: usize| left.checked_sub(bytes);
        let made = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok();
        made.then(|| Promise { promises: self.clone(), bytes })
    }
}

/// Promised bytes, which are returned on drop.
#[derive(Debug)]
pub(crate) struct Promise {
    promises: Promises,
    bytes: usize,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promises.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_there_is() {
        let promises = Promises::new(100);
        let first = promises.make(60).unwrap();
        assert!(promises.make(60).is_none());
        drop(first);
        assert!(promises.make(60).is_some());
    }

    #[test]
    fn a_machines_memory_is_known() {
        let limits = Limits::default();
        assert!(limits.total_bytes >= 16 << 20 && limits.total_bytes <= 1 << 30, "{limits:?}");
    }
}
