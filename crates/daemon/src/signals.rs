//! The signals that end an exporter, or make it read its file again.

use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use jumpstarter_driver_core::Result;
use jumpstarter_supervise::{Heeded, Signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The signals that end an exporter. Signals that were ignored at the program's start, as by
/// `nohup` and in background jobs of a shell, stay ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: Vec<(&'static str, Heeded)>,
    /// SIGHUP, if it does not end the exporter.
    reload: Option<Heeded>,
    /// What else ends it, once.
    other: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Whether another signal followed the one that ends the exporter.
    pub(crate) hurried: bool,
}

impl Signals {
    /// SIGTERM, SIGINT, SIGQUIT and SIGHUP end the exporter.
    pub(crate) fn new() -> Result<Self> {
        let kinds = [
            ("SIGTERM", Signal::TERM),
            ("SIGINT", Signal::INT),
            ("SIGQUIT", Signal::QUIT),
            ("SIGHUP", Signal::HUP),
        ];
        let heeded = kinds.into_iter().map(|(name, signal)| Ok((name, Heeded::new(signal)?)));
        let ending = heeded.collect::<io::Result<_>>()?;
        Ok(Self { ending, reload: None, other: None, hurried: false })
    }

    /// As [`new`](Self::new), but SIGHUP reloads the exporter file, unless a closing terminal sent
    /// it.
    pub(crate) fn with_reload() -> Result<Self> {
        let mut signals = Self::new()?;
        if !(io::stdin().is_terminal() || io::stderr().is_terminal()) {
            let hang_up = signals.ending.extract_if(.., |(name, _)| *name == "SIGHUP").next();
            signals.reload = hang_up.map(|(_, signal)| signal);
        }
        Ok(signals)
    }

    /// Makes the end of `other` end the exporter as a signal does.
    pub(crate) fn also_end_with(&mut self, other: CancellationToken) {
        self.other = Some(Box::pin(other.cancelled_owned()));
    }

    /// Whether a SIGHUP came that reloads the exporter file.
    pub(crate) fn reload_is_asked(&mut self) -> bool {
        let Some(reload) = &mut self.reload else { return false };
        poll_fn(|cx| reload.poll_recv(cx)).now_or_never().is_some()
    }

    /// Waits for a signal that ends the exporter, and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        for (name, signal) in &mut self.ending {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*name);
            }
        }
        if self.other.as_mut().is_some_and(|other| other.as_mut().poll(cx).is_ready()) {
            self.other = None;
            return Poll::Ready("none");
        }
        Poll::Pending
    }

    /// Waits for a signal that ends the exporter, and returns its name; `None` for a SIGHUP that
    /// does not end it.
    pub(crate) async fn next_or_reload(&mut self) -> Option<&'static str> {
        poll_fn(|cx| {
            if let Poll::Ready(name) = self.poll_next(cx) {
                return Poll::Ready(Some(name));
            }
            match self.reload.as_mut().map(|signal| signal.poll_recv(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(None),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for a further signal, and logs `meaning`.
    pub(crate) async fn hurry(&mut self, meaning: &str) {
        let name = self.next().await;
        tracing::warn!(signal = name, "hurrying: {meaning}");
        self.hurried = true;
    }
}
