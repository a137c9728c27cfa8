//! The log of this process: the records on standard error, and their selection.

mod format;
mod output;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::{LogHub, LogLayer, LogRecord, LogSource, LogTopic};
use jumpstarter_text::truncated;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

pub use format::LogFormat;
use output::Output;

/// The longest message of a panic.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The log of this process. Clones share it; the default one is not installed and does nothing.
#[derive(Clone, Debug, Default)]
pub struct Log {
    hub: LogHub,
    shown: Arc<Shown>,
}

/// The selection of records for standard error.
#[derive(Debug, Default)]
struct Shown {
    /// Whether each call has a line, or only failed ones.
    every_call: bool,
    /// Only warnings and errors, because another program has the terminal.
    quiet: AtomicBool,
    /// Everything, even then.
    all: AtomicBool,
}

impl Log {
    /// Sends everything that this process logs at `level` and above to standard error and to the
    /// hub.
    ///
    /// # Errors
    /// `AlreadyExists` if the process has a log already.
    pub fn install(level: Level, format: LogFormat) -> Result<Self> {
        let shown = Shown { every_call: level >= Level::DEBUG, ..Shown::default() };
        let log = Self { hub: LogHub::default(), shown: Arc::new(shown) };
        // The libraries' records about each frame would hide the rest.
        let quiet = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "tokio_util"];
        let filter = Targets::new()
            .with_default(level)
            .with_targets(quiet.map(|target| (target, Level::WARN.min(level))));
        let (output, shown) = (Output::on_thread(format), log.shown.clone());
        let layer = LogLayer::new(log.hub.clone()).with_output(move |record| {
            if shown.shows(record) {
                output.write(record);
            }
        });
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        tracing::subscriber::set_global_default(subscriber).map_err(|error| {
            Error::already_exists("this process has a log already").with_source(error)
        })?;
        log_panics(format);
        Ok(log)
    }

    /// Waits, for at most a moment, until logged records are written.
    pub fn flush() {
        output::flush();
    }

    /// The log's part for clients.
    pub fn hub(&self) -> &LogHub {
        &self.hub
    }

    /// Shows every record on standard error even while a [`shell`](crate::shell()) runs its
    /// command.
    pub fn show_all(&self) {
        self.shown.all.store(true, Ordering::Relaxed);
    }

    /// Hides records below a warning, except a hook's, and records about calls from standard error,
    /// or shows them again.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.shown.quiet.store(quiet, Ordering::Relaxed);
    }
}

impl Shown {
    fn shows(&self, record: &LogRecord) -> bool {
        let is_call = record.topic == LogTopic::Call;
        if is_call && !self.every_call && record.level >= Level::INFO {
            return false;
        }
        let quiet = self.quiet.load(Ordering::Relaxed) && !self.all.load(Ordering::Relaxed);
        let of_hook =
            matches!(record.source, LogSource::BeforeLeaseHook | LogSource::AfterLeaseHook);
        // The caller at the same terminal reports the failure itself.
        !quiet || of_hook || (record.level <= Level::WARN && !is_call)
    }
}

/// Makes panics records of the log: a panic's message may come from a client. `RUST_BACKTRACE`
/// shows more.
fn log_panics(format: LogFormat) {
    let (output, default) = (Output::direct(format), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("without a message");
        let message = format!("a panic at {place}: {}", truncated(text, MAX_TEXT_BYTES));
        // Not through `tracing`, which may have panicked.
        output.write(&LogRecord::new(Level::ERROR, LogSource::System, message));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: Level, topic: LogTopic) -> LogRecord {
        let mut record = LogRecord::new(level, LogSource::System, "");
        record.topic = topic;
        record
    }

    #[test]
    fn calls_that_fail_are_shown_and_the_others_where_that_is_wanted() {
        let log = Log::default();
        assert!(!log.shown.shows(&record(Level::INFO, LogTopic::Call)));
        assert!(log.shown.shows(&record(Level::WARN, LogTopic::Call)));
        let all = Shown { every_call: true, ..Shown::default() };
        assert!(all.shows(&record(Level::INFO, LogTopic::Call)));
    }

    #[test]
    fn a_quiet_log_shows_warnings_and_errors_that_are_not_of_calls() {
        let log = Log::default();
        let shown = |level, topic| log.shown.shows(&record(level, topic));
        assert!(shown(Level::DEBUG, LogTopic::Other));
        log.set_quiet(true);
        assert!(shown(Level::ERROR, LogTopic::Other) && shown(Level::WARN, LogTopic::Other));
        assert!(!shown(Level::INFO, LogTopic::Other));
        let mut of_hook = record(Level::INFO, LogTopic::Other);
        of_hook.source = LogSource::AfterLeaseHook;
        assert!(log.shown.shows(&of_hook));
        assert!(!shown(Level::WARN, LogTopic::Call), "the caller says it itself");
        log.show_all();
        assert!(shown(Level::INFO, LogTopic::Other) && shown(Level::WARN, LogTopic::Call));
    }
}
