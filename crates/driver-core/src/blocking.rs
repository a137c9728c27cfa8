//! Runs calls that may block, such as file operations, outside the runtime's threads.

use crate::error::{Error, Result};

/// Runs `work` on a thread that may block, and waits for it without blocking.
///
/// Cancelling does not end the work: its result is dropped on its thread.
///
/// # Errors
/// The errors of `work`; [`Internal`](crate::ErrorKind::Internal) if it panics.
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
