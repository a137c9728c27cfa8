//! File work outside the runtime's threads: a file system may be slow, or hang for ever.

use jumpstarter_driver_core::prelude::*;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Runs `work`, which may block between its waits, on a thread for such work. Dropping the future
/// drops `work` at its next wait; a hanging file operation blocks only its thread.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let dropped = CancellationToken::new();
    let _drop = dropped.clone().drop_guard();
    let runtime = Handle::current();
    let thread = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = dropped.cancelled() => Err(Error::cancelled("the caller went away")),
                done = work => done,
            }
        })
    });
    thread
        .await
        .unwrap_or_else(|error| Err(Error::internal("a thread for files ended").with_source(error)))
}
