//! Cancelling a flash: the caller's future and the threads agree on who came first.

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the caller still wants the image.
#[derive(Clone, Default)]
pub(crate) struct Turn(Arc<Mutex<bool>>);

impl Turn {
    /// Fails once the caller is gone.
    pub(crate) fn check(&self) -> Result<()> {
        self.last_step(|| Ok(()))
    }

    /// Runs a short step that must not happen once the caller is gone; the caller's going waits for it.
    ///
    /// Without the lock, a cancelled flash that was about to rename could replace the image of the next one.
    pub(crate) fn last_step<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let cancelled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *cancelled {
            return Err(Error::new(ErrorKind::Cancelled, "the caller went away"));
        }
        step()
    }

    /// Cancels when it is dropped.
    pub(crate) fn guard(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Held by the caller's future.
pub(crate) struct CancelOnDrop(Turn);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
