//! The signals that end an exporter, or have it read its file anew.

use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::task::Poll;

use jumpstarter_driver_core::Result;
use jumpstarter_supervise::{Heeded, Signal};

/// The signals that end an exporter. Those that were ignored when the program started, as `nohup`
/// and a shell's background jobs have it, stay ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: Vec<(&'static str, Heeded)>,
    /// SIGHUP, where it does not end the exporter.
    reload: Option<Heeded>,
    /// A signal came after the one that ends the exporter.
    pub(crate) hurried: bool,
}

impl Signals {
    /// SIGTERM, SIGINT, SIGQUIT and SIGHUP end.
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

    /// The same, but that SIGHUP asks for another look at the exporter file, unless it is a
    /// terminal's end.
    pub(crate) fn with_reload() -> Result<Self> {
        let mut signals = Self::new()?;
        if !(io::stdin().is_terminal() || io::stderr().is_terminal()) {
            let hang_up = signals.ending.extract_if(.., |(name, _)| *name == "SIGHUP").next();
            signals.reload = hang_up.map(|(_, signal)| signal);
        }
        Ok(signals)
    }

    /// Waits for a signal that ends, and answers with its name.
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

    /// Waits for a signal that ends, whose name is the answer, or for SIGHUP where that does not
    /// end.
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

    /// Waits for a signal that hurries, and says what it means.
    pub(crate) async fn hurry(&mut self, meaning: &str) {
        let name = self.next().await;
        tracing::warn!(signal = name, "hurrying: {meaning}");
        self.hurried = true;
    }
}
