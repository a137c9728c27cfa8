//! File work away from the runtime's threads: a file system may be slow, or hang for good.

use jumpstarter_driver_core::prelude::*;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Runs `work`, which may block between its waits, on a thread for such work. Dropping the future
/// drops `work` where it waits next; a call to a file that hangs keeps its thread, and nobody else.
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
                () = dropped.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the caller went away")),
                done = work => done,
            }
        })
    });
    thread
        .await
        .unwrap_or_else(|error| Err(Error::internal("a thread for files ended").with_source(error)))
}
