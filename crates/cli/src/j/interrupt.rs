//! Ctrl-C and SIGTERM cancel the running verb, unless it waits for them and ends itself.

use std::sync::Arc;

use jumpstarter_supervise::{Heeded, Signal};
use tokio::sync::watch;

use crate::fault::{INTERRUPTED, Result, TERMINATED};

/// The signals that end a program, unless they were ignored at its start.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Heeded,
    terminate: Heeded,
}

impl Signals {
    pub(crate) fn install() -> Result<Self> {
        Ok(Self { interrupt: Heeded::new(Signal::INT)?, terminate: Heeded::new(Signal::TERM)? })
    }

    /// Waits for the next signal and returns its exit code. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            () = self.interrupt.recv() => INTERRUPTED,
            () = self.terminate.recv() => TERMINATED,
        }
    }
}

/// Asks a verb that waits for an interrupt to end. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct Interrupts(Arc<watch::Sender<bool>>);

impl Default for Interrupts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Interrupts {
    /// Asks the verb to end. Returns false if no verb waits or it was asked before: the caller then
    /// cancels it.
    pub(crate) fn send(&self) -> bool {
        self.0.receiver_count() > 0 && !self.0.send_replace(true)
    }

    /// Returns when the user interrupts. The first signal does not cancel a verb that holds this
    /// future, even before it is polled.
    pub(crate) fn received(&self) -> impl Future<Output = ()> + use<> {
        let (sender, mut asked) = (self.0.clone(), self.0.subscribe());
        async move {
            // The sender is held here: this cannot fail.
            asked.wait_for(|sent| *sent).await.ok();
            drop(sender);
        }
    }
}
