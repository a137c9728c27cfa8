//! Calls that may block, such as those of a file system, away from the threads of the runtime.

use crate::error::{Error, Result};

/// Runs `work` on a thread that may block, and waits for it without blocking.
///
/// Cancelling does not end the work: what it returns is dropped on its thread.
///
/// # Errors
/// What `work` fails with; [`Internal`](crate::ErrorKind::Internal) if it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::internal("a blocking task ended without a result").with_source(error))
        }
    }
}
