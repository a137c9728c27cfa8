//! The signals that end an exporter, or make it read its file again.

use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::task::Poll;

use jumpstarter_driver_core::Result;
use jumpstarter_supervise::{Heeded, Signal};

/// The signals that end an exporter. Signals that were ignored at the program's start, as by
/// `nohup` and in background jobs of a shell, stay ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: Vec<(&'static str, Heeded)>,
    /// SIGHUP, if it does not end the exporter.
    reload: Option<Heeded>,
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
        Ok(Self { ending, reload: None, hurried: false })
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

    /// Waits for a signal that ends the exporter, and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        poll_fn(|cx| {
            for (name, signal) in &mut self.ending {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for a signal that ends the exporter, and returns its name; `None` for a SIGHUP that
    /// does not end it.
    pub(crate) async fn next_or_reload(&mut self) -> Option<&'static str> {
        poll_fn(|cx| {
            for (name, signal) in &mut self.ending {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(Some(*name));
                }
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
