//! Signals, unless this process ignores them.
#![expect(unsafe_code, reason = "how a signal is handled has no safe interface")]

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::{io, mem, ptr};

use tokio::signal::unix::{self, SignalKind};

use crate::Signal;

/// A signal that this process waits for. A signal that was ignored when the program started stays
/// ignored, as `nohup` and a shell's background jobs expect.
#[derive(Debug)]
pub struct Heeded(Option<unix::Signal>);

impl Heeded {
    /// Begins to listen, inside a tokio runtime.
    ///
    /// # Errors
    /// The system's error if it has no room for another listener.
    pub fn new(signal: Signal) -> io::Result<Self> {
        let listener = (!is_ignored(signal))
            .then(|| unix::signal(SignalKind::from_raw(signal.as_raw())))
            .transpose()?;
        Ok(Self(listener))
    }

    /// Waits for the signal; for ever if it is ignored. Cancelling loses none.
    pub async fn recv(&mut self) {
        poll_fn(|cx| self.poll_recv(cx)).await;
    }

    /// Completes when the signal arrives.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(listener) => listener.poll_recv(cx).map(drop),
            None => Poll::Pending,
        }
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: nothing is set, and the answer goes to a local, whose type zeroes are valid for.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal.as_raw(), ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
