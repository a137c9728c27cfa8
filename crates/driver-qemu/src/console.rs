//! The machine's console, over all of its power cycles: QEMU's socket accepts one client, and this
//! shares it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use jumpstarter_console::{ConsoleLog, ReadFrom, SCROLLBACK};
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::lock::lock;

/// How long the last output of a run may take to reach the log.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// The console of a machine. It can be opened while the machine is off, as a board's serial port
/// can.
#[derive(Debug)]
pub(crate) struct Console {
    log: ConsoleLog,
    /// Each power-on sends its connection; `None` once the machine is destroyed.
    sources: Mutex<Option<mpsc::UnboundedSender<Channel>>>,
    /// The position in the log at which this power cycle began.
    cycle_start: AtomicU64,
    /// Whether a client was connected since then.
    heard: AtomicBool,
    /// Whether the log has the complete output of the last run.
    settled: watch::Receiver<bool>,
}

impl Console {
    /// Needs a Tokio runtime.
    pub(crate) fn new() -> Self {
        let (sources, mut next) = mpsc::unbounded_channel();
        let (nothing_yet, _) = Channel::pair(Framing::Bytes);
        let (settling, settled) = watch::channel(false);
        // Called when the last run's connection was read to its end.
        let next = Arc::new(tokio::sync::Mutex::new(async move || {
            settling.send_replace(true);
            let source = next.recv().await;
            settling.send_replace(false);
            source
        }));
        let reconnect = Box::new(move |_| {
            let next = next.clone();
            async move { Ok((next.lock().await)().await) }.boxed()
        });
        Self {
            log: ConsoleLog::reconnecting(nothing_yet, SCROLLBACK, reconnect),
            sources: Mutex::new(Some(sources)),
            cycle_start: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            settled,
        }
    }

    /// Waits until the log has the complete output of the last run, which takes a moment after its
    /// end.
    pub(crate) async fn settle(&self) {
        let mut settled = self.settled.clone();
        drop(timeout(SETTLES_WITHIN, settled.wait_for(|settled| *settled)).await);
    }

    /// Earlier output is no longer quoted, nor shown to the next client.
    pub(crate) fn forget(&self) {
        self.cycle_start.store(self.log.total_bytes(), Ordering::SeqCst);
        self.heard.store(false, Ordering::SeqCst);
    }

    /// Starts a power cycle with this connection, once the last one has [settled](Self::settle).
    pub(crate) fn power_on(&self, connection: UnixStream) {
        self.forget();
        let (reader, writer) = connection.into_split();
        if let Some(sources) = lock(&self.sources).as_ref() {
            // The log lives as long as the machine.
            drop(sources.send(Channel::from_split(reader, writer)));
        }
    }

    /// Returns a channel for another client. The first client of a power cycle also gets the output
    /// since its beginning.
    pub(crate) fn attach(&self) -> Channel {
        let from = if self.heard.swap(true, Ordering::SeqCst) {
            ReadFrom::Now
        } else {
            ReadFrom::Offset(self.cycle_start.load(Ordering::SeqCst))
        };
        self.log.attach_from(from)
    }

    /// Ends every client's channel; new ones can be opened.
    pub(crate) fn hang_up(&self) {
        self.log.hang_up();
    }

    /// The last lines of this power cycle, for errors.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        self.log.last_lines_since(self.cycle_start.load(Ordering::SeqCst), count)
    }

    /// Ends the console for good.
    pub(crate) fn end(&self) {
        lock(&self.sources).take();
    }
}
