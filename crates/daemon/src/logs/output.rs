//! Standard error, written by a separate thread: a paused terminal (Ctrl-S) or a pipe without a
//! reader blocks no call.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use jumpstarter_exporter::{LogRecord, LogSource};
use tracing::Level;

use super::format::{self, LogFormat};

/// The most lines that wait to be written.
const QUEUE: usize = 4096;
/// The most bytes of lines that are written at once.
const WRITTEN_AT_ONCE: usize = 64 << 10;
/// How long the thread rests after a write. A flood of lines wakes it up once in this time, not
/// once for each line.
const REST: Duration = Duration::from_millis(1);
/// How long waiting lines may take at the program's end.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The destination of lines.
#[derive(Debug)]
pub(super) struct Output {
    format: LogFormat,
    to_journal: bool,
    /// Whether a thread writes them.
    on_thread: bool,
    /// The thread, which the first line starts; `None` if it cannot be started: lines are then
    /// written at once.
    thread: OnceLock<Option<SyncSender<Order>>>,
    /// The number of lines dropped from a full queue.
    lost: AtomicU64,
}

enum Order {
    Line(String),
    /// Reports when all earlier lines are written.
    Flush(SyncSender<()>),
}

/// The queue of this process's log.
static INSTALLED: OnceLock<SyncSender<Order>> = OnceLock::new();

/// Waits, for at most a moment, until logged lines are written.
pub(super) fn flush() {
    let Some(thread) = INSTALLED.get() else { return };
    let (done, written) = sync_channel(1);
    if thread.try_send(Order::Flush(done)).is_ok() {
        // Written, or too late: the program ends.
        written.recv_timeout(FLUSH_LIMIT).ok();
    }
}

impl Output {
    /// Writes lines at once.
    pub(super) fn direct(format: LogFormat) -> Self {
        let to_journal = format::stderr_is_journal();
        Self {
            format,
            to_journal,
            on_thread: false,
            thread: OnceLock::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Writes lines on a thread.
    pub(super) fn on_thread(format: LogFormat) -> Self {
        Self { on_thread: true, ..Self::direct(format) }
    }

    fn thread(&self) -> Option<&SyncSender<Order>> {
        let thread = self.on_thread.then(|| self.thread.get_or_init(start))?;
        thread.as_ref()
    }

    pub(super) fn write(&self, record: &LogRecord) {
        let line = format::write(record, self.format, self.to_journal);
        let Some(thread) = self.thread() else { return write(&line) };
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message =
                format!("{lost} lines of the log were lost: standard error is read too slowly");
            let record = LogRecord::new(Level::WARN, LogSource::System, message);
            let told =
                thread.try_send(Order::Line(format::write(&record, self.format, self.to_journal)));
            if told.is_err() {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        match thread.try_send(Order::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            Err(TrySendError::Disconnected(Order::Line(line))) => write(&line),
            Err(TrySendError::Disconnected(Order::Flush(_))) => {}
        }
    }
}

fn start() -> Option<SyncSender<Order>> {
    let (orders, received) = sync_channel(QUEUE);
    thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&received)).ok()?;
    // The first one is the process's: it has one log.
    INSTALLED.set(orders.clone()).ok();
    Some(orders)
}

fn write_all(orders: &Receiver<Order>) {
    let mut lines = String::new();
    while let Ok(first) = orders.recv() {
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Line(line) => lines.push_str(&line),
                Order::Flush(done) => {
                    write(&lines);
                    lines.clear();
                    // It waits no longer than a moment.
                    done.send(()).ok();
                }
            }
            next = (lines.len() < WRITTEN_AT_ONCE).then(|| orders.try_recv().ok()).flatten();
        }
        write(&lines);
        lines.clear();
        rest();
    }
}

#[expect(clippy::disallowed_methods, reason = "it limits a rate, and waits for nothing")]
fn rest() {
    thread::sleep(REST);
}

fn write(line: &str) {
    // Standard error may have no reader; there is no other place to report that.
    io::stderr().lock().write_all(line.as_bytes()).ok();
}
