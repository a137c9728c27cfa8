//! The counters of a session, for its operator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jumpstarter_driver_core::ErrorKind;

/// The counts of a session so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of drivers, refused ones included.
    pub calls: u64,
    /// Failed calls, by the name of their error's kind.
    pub errors: BTreeMap<String, u64>,
    /// Open byte streams.
    pub open_streams: u64,
    /// Bytes from clients on byte streams.
    pub received_bytes: u64,
    /// Bytes to clients on byte streams.
    pub sent_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    open_streams: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// Counts a byte stream as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Counters>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(format!("{kind:?}")).or_default() += 1;
    }

    pub(crate) fn opened(self: &Arc<Self>) -> OpenStream {
        self.open_streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            open_streams: self.open_streams.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_until_it_is_dropped() {
        let counters = Arc::new(Counters::default());
        counters.called();
        counters.failed(ErrorKind::NotFound);
        let _open = counters.opened();
        drop(counters.opened());
        let counts = counters.counts();
        assert_eq!((counts.calls, counts.open_streams), (1, 1));
        assert_eq!(counts.errors["NotFound"], 1);
    }
}
