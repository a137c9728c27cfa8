//! Removes files on other threads, so that dropping their owner waits for no file system.

use std::time::Duration;

use jumpstarter_supervise::Leftovers;

/// What an exit in order leaves after five seconds is removed by the next process of its kind.
static REMOVALS: Leftovers = Leftovers::new("files-remove", Duration::from_secs(5));

/// Runs `work` on a new thread. The process's exit waits for it, up to a limit.
pub(crate) fn later(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = REMOVALS.run(work) {
        // What stays is removed by the next process of its kind.
        tracing::warn!(%error, "a file or folder stays behind: no thread could be started to remove it");
    }
}

/// Waits until everything that was dropped is removed, for `limit` at most; says whether it is.
///
/// The end of the process waits by itself. Call this where other programs must see the removal
/// earlier, on a thread that may block.
pub fn finish_removals(limit: Duration) -> bool {
    REMOVALS.finish(limit)
}
