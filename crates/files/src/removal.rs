//! Removes files on other threads, so that dropping their owner waits for no file system.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// How long an exit in order waits for removals. What is left then is removed by the next process
/// of its kind.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// Removals that have not ended.
static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();
static AT_EXIT: Once = Once::new();

/// Runs `work` on a new thread. The process's exit waits for it, up to a limit.
pub(crate) fn later(work: impl FnOnce() + Send + 'static) {
    AT_EXIT.call_once(|| {
        jumpstarter_supervise::at_exit(|| {
            finish_removals(EXIT_LIMIT);
        });
    });
    *running() += 1;
    let counted = Counted;
    let started = std::thread::Builder::new().name("files-remove".to_owned()).spawn(move || {
        let _counted = counted;
        work();
    });
    if let Err(error) = started {
        // The work was dropped, and the count with it. What stays is removed by the next process of
        // its kind.
        tracing::warn!(%error, "a file or folder stays behind: no thread could be started to remove it");
    }
}

/// Waits until everything that was dropped is removed, for `limit` at most; says whether it is.
///
/// The end of the process waits by itself. Call this where other programs must see the removal
/// earlier, on a thread that may block.
pub fn finish_removals(limit: Duration) -> bool {
    // None for more than a clock can show.
    let deadline = Instant::now().checked_add(limit);
    let mut count = running();
    while *count > 0 {
        let left = deadline.map_or(Some(limit), |end| end.checked_duration_since(Instant::now()));
        let Some(left) = left else { return false };
        count = ENDED.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}

fn running() -> MutexGuard<'static, usize> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One removal that counts as running until this is dropped.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        *running() -= 1;
        ENDED.notify_all();
    }
}
