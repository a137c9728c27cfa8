//! Reports the progress of a transfer to observers, at most twenty times a second.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The progress of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes so far, as the source delivers them (compressed, if the image is).
    pub transferred_bytes: u64,
    /// The total, if it is known.
    pub total_bytes: Option<u64>,
}

impl Progress {
    /// The progress so far, with the total if it is known.
    pub fn new(transferred_bytes: u64, total_bytes: Option<u64>) -> Self {
        Self { transferred_bytes, total_bytes }
    }
}

/// A callback for progress: called from any thread, and must not block.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;

const INTERVAL: Duration = Duration::from_millis(50);

/// Counts bytes and notifies observers: at most 20 times a second, and once at the end.
pub struct Meter {
    observers: Vec<Observer>,
    progress: Progress,
    told: Option<Instant>,
}

impl Meter {
    /// A meter at zero.
    pub fn new(observers: Vec<Observer>, total_bytes: Option<u64>) -> Self {
        Self { observers, progress: Progress { transferred_bytes: 0, total_bytes }, told: None }
    }

    /// Counts `bytes` more.
    pub fn add(&mut self, bytes: u64) {
        self.progress.transferred_bytes += bytes;
        if self.observers.is_empty() || self.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return;
        }
        self.told = Some(Instant::now());
        self.tell();
    }

    /// Reports the final count, even if it was reported before.
    pub fn finish(&mut self) {
        self.tell();
    }

    /// The count so far.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The total, if it is known.
    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.progress.total_bytes
    }

    fn tell(&self) {
        for observer in &self.observers {
            observer(self.progress);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("progress", &self.progress)
            .field("observers", &self.observers.len())
            .finish()
    }
}
