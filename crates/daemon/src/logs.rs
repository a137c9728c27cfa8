//! The log of this process: what it writes to standard error, and which records those are.

mod format;
mod output;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_exporter::{LogHub, LogLayer, LogRecord, LogSource, LogTopic};
use jumpstarter_text::truncated;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

pub use format::LogFormat;
use output::Output;

/// Of the message of a panic.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The log of this process. Clones are the same; the default one is not installed and says nothing.
#[derive(Clone, Debug, Default)]
pub struct Log {
    hub: LogHub,
    shown: Arc<Shown>,
}

/// Which records standard error gets.
#[derive(Debug, Default)]
struct Shown {
    /// A line for each call, not only for those that fail.
    every_call: bool,
    /// Somebody else has the terminal: only warnings and errors.
    quiet: AtomicBool,
    /// Everything all the same.
    all: AtomicBool,
}

impl Log {
    /// Has everything that this process logs at `level` and above go to standard error and to the
    /// hub.
    ///
    /// # Errors
    /// `AlreadyExists` when the process has a log already.
    pub fn install(level: Level, format: LogFormat) -> Result<Self> {
        let shown = Shown { every_call: level >= Level::DEBUG, ..Shown::default() };
        let log = Self { hub: LogHub::default(), shown: Arc::new(shown) };
        // What the libraries below say of each frame would drown the rest.
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
            Error::new(ErrorKind::AlreadyExists, "this process has a log already")
                .with_source(error)
        })?;
        log_panics(format);
        Ok(log)
    }

    /// Waits until what was logged is written, for a moment at most.
    pub fn flush() {
        output::flush();
    }

    /// What clients see of it.
    pub fn hub(&self) -> &LogHub {
        &self.hub
    }

    /// Has standard error get every record also while a [`shell`](crate::shell()) runs its command.
    pub fn show_all(&self) {
        self.shown.all.store(true, Ordering::Relaxed);
    }

    /// Spares standard error what is less severe than a warning, unless a hook said it, and what
    /// reports a call; or no longer.
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
        // The caller at the same terminal says itself why a call failed.
        !quiet || of_hook || (record.level <= Level::WARN && !is_call)
    }
}

/// Has panics be lines of the log: what a driver panics with may come from elsewhere.
/// `RUST_BACKTRACE` shows more.
fn log_panics(format: LogFormat) {
    let (output, default) = (Output::direct(format), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("without a message");
        let message = format!("a panic at {place}: {}", truncated(text, MAX_TEXT_BYTES));
        // Not through `tracing`, where it may have happened.
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
