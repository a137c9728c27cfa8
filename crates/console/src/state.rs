//! What a shared console's task and its readers and writers share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jumpstarter_driver_core::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::scrollback::Scrollback;

/// What the task and the readers share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Counts the changes of `state`.
    pub(crate) changed: watch::Sender<u64>,
}

pub(crate) struct State {
    pub(crate) scrollback: Scrollback,
    /// Why writes fail for now, if they do.
    pub(crate) write_failure: Option<String>,
    /// Whether there is a source now: writes for the next one are not waited for.
    pub(crate) connected: bool,
    /// Cancelled when the attached clients must end.
    pub(crate) clients: CancellationToken,
    pub(crate) end: Option<End>,
}

/// How the log came to its end.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The source ended, or the log was dropped.
    Closed,
    /// The source broke.
    Broken(String),
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The error of a writer whose console cannot be written.
pub(crate) fn not_writable(why: &str) -> Error {
    Error::unavailable(format!("the console takes no input: {why}"))
}
