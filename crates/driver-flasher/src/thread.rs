//! Threads for blocking work, and how they notice a cancelled caller.

use std::thread::{Builder, JoinHandle};

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_files::Turn;
use tokio::sync::oneshot;

/// Runs what may block on a new thread, and waits for it without blocking.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, is_done) = oneshot::channel();
    // The caller may have been dropped; then the result is ignored.
    spawn(name, move || drop(done.send(work())))?;
    is_done.await.map_err(|_| Error::internal(format!("the thread {name} panicked")))
}

/// Fails with `Cancelled` once the caller has dropped its future.
pub(crate) fn check(turn: &Turn) -> Result<()> {
    if turn.is_wanted() { Ok(()) } else { Err(gone()) }
}

pub(crate) fn gone() -> Error {
    Error::cancelled("the caller went away")
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        Error::resource_exhausted(format!("starting the thread {name}")).with_source(error)
    })
}
