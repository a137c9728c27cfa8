//! Locks that are held for moments.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, even after a thread panicked with the lock: no change here is made in several steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
