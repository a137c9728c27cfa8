//! The log: records of drivers, hooks and the exporter go to standard error and to every client that listens.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::Timestamp;
use jumpstarter_protocol::fields;
use jumpstarter_protocol::v1::{LogSource, LogStreamResponse};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Records that one client may be behind.
const QUEUE: usize = 1024;

/// Of a message, or of one field: clients accept no records of some megabytes, and would lose the log with one.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A driver.
    Driver,
    /// The hook before a lease.
    BeforeLeaseHook,
    /// The hook after a lease.
    AfterLeaseHook,
    /// The exporter itself.
    System,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was written.
    pub time: SystemTime,
    /// How severe it is.
    pub level: Level,
    /// Who wrote it.
    pub source: Source,
    /// What it says.
    pub message: String,
    /// The driver that was called, by its path.
    pub driver: Option<String>,
    /// The type of that driver.
    pub driver_type: Option<String>,
    /// The method that was called.
    pub operation: Option<String>,
    /// Everything else, by name.
    pub fields: BTreeMap<String, String>,
}

impl Record {
    /// A record of now.
    pub fn new(level: Level, source: Source, message: impl Into<String>) -> Self {
        Self {
            time: SystemTime::now(),
            level,
            source,
            message: message.into(),
            driver: None,
            driver_type: None,
            operation: None,
            fields: BTreeMap::new(),
        }
    }

    /// The level by its name in Python's `logging`.
    pub fn severity(&self) -> &'static str {
        match self.level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        }
    }

    pub(crate) fn to_wire(&self, uuid: &str) -> LogStreamResponse {
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let source = match self.source {
            Source::Driver => LogSource::Driver,
            Source::BeforeLeaseHook => LogSource::BeforeLeaseHook,
            Source::AfterLeaseHook => LogSource::AfterLeaseHook,
            Source::System => LogSource::System,
        };
        let mut message = self.message.clone();
        for (name, value) in &self.fields {
            // Clients show the message alone.
            let _infallible = write!(message, " {name}={value}");
        }
        let mut structured_fields: HashMap<_, _> = self.fields.clone().into_iter().collect();
        if let Some(driver) = self.driver.clone().filter(|driver| !driver.is_empty()) {
            structured_fields.insert(fields::DRIVER.to_owned(), driver);
        }
        LogStreamResponse {
            uuid: uuid.to_owned(),
            severity: self.severity().to_owned(),
            message,
            source: Some(source.into()),
            driver_type: self.driver_type.clone(),
            operation: self.operation.clone(),
            timestamp: Some(Timestamp {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
            }),
            structured_fields,
        }
    }
}

/// Hands each record to every subscriber. Clones are the same hub.
#[derive(Clone, Debug, Default)]
pub struct LogHub(Arc<Hub>);

#[derive(Debug, Default)]
struct Hub {
    queues: Mutex<Vec<Weak<Queue>>>,
    /// Somebody else has the terminal: standard error gets warnings and errors only.
    quiet: AtomicBool,
    /// Standard error gets everything all the same.
    show_all: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Pending>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    records: VecDeque<Arc<Record>>,
    lost: u64,
}

impl LogHub {
    /// Has standard error get every record also while a [`shell`](crate::shell()) runs its command.
    pub fn show_all(&self) {
        self.0.show_all.store(true, Ordering::Relaxed);
    }

    /// Spares standard error what is less severe than a warning, or no longer.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.0.quiet.store(quiet, Ordering::Relaxed);
    }

    fn is_shown(&self, level: Level) -> bool {
        level <= Level::WARN
            || !self.0.quiet.load(Ordering::Relaxed)
            || self.0.show_all.load(Ordering::Relaxed)
    }

    /// Every record from now on.
    pub fn subscribe(&self) -> Subscription {
        let queue = Arc::new(Queue::default());
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Subscription(queue)
    }

    /// Hands a record out. Never waits: who is slow loses the oldest of its own records.
    pub fn publish(&self, record: Record) {
        let queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.is_empty() {
            return;
        }
        let record = Arc::new(record);
        for queue in queues.iter().filter_map(Weak::upgrade) {
            let mut pending = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.records.len() >= QUEUE {
                pending.records.pop_front();
                pending.lost += 1;
            }
            pending.records.push_back(record.clone());
            drop(pending);
            queue.news.notify_one();
        }
    }
}

/// The records for one listener; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription(Arc<Queue>);

impl Subscription {
    /// The next record. Cancelling loses nothing. Where records were lost, one that says how many comes first.
    pub async fn next(&mut self) -> Arc<Record> {
        loop {
            {
                let mut pending = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                if pending.lost > 0 {
                    let message =
                        format!("{} log records were lost: this client reads too slowly", pending.lost);
                    pending.lost = 0;
                    return Arc::new(Record::new(Level::WARN, Source::System, message));
                }
                if let Some(record) = pending.records.pop_front() {
                    return record;
                }
            }
            self.0.news.notified().await;
        }
    }
}

/// How records are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The layer of `tracing` that feeds a hub and standard error.
#[derive(Debug)]
pub struct LogLayer {
    hub: LogHub,
    format: LogFormat,
}

impl LogLayer {
    /// Feeds `hub`, and writes to standard error in `format`.
    pub fn new(hub: LogHub, format: LogFormat) -> Self {
        Self { hub, format }
    }

    fn write(&self, record: &Record) {
        use std::io::Write;
        let line = match self.format {
            LogFormat::Text => text_line(record),
            LogFormat::Json => json_line(record),
        };
        // Nobody may be left to read it; there is no other place to say so.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

fn text_line(record: &Record) -> String {
    let mut line = format!("{:<7} ", record.severity());
    if let Some(driver) = record.driver.as_deref().filter(|driver| !driver.is_empty()) {
        line.push_str(driver);
        line.push_str(": ");
    }
    line.push_str(&record.message);
    for (name, value) in &record.fields {
        let _infallible = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

fn json_line(record: &Record) -> String {
    let since = record.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let object = serde_json::json!({
        "time": since.as_secs_f64(),
        "severity": record.severity(),
        "source": format!("{:?}", record.source),
        "driver": record.driver,
        "driver_type": record.driver_type,
        "operation": record.operation,
        "message": record.message,
        "fields": record.fields,
    });
    format!("{object}\n")
}

/// Has everything that this process logs at `level` and above go to standard error and to the hub that is returned.
///
/// # Errors
/// `AlreadyExists` when the process has a log already.
pub fn install(level: Level, format: LogFormat) -> Result<LogHub> {
    use tracing_subscriber::layer::SubscriberExt;
    let hub = LogHub::default();
    // What the libraries below say of each frame would drown the rest.
    let quiet = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "tokio_util"];
    let filter =
        Targets::new().with_default(level).with_targets(quiet.map(|target| (target, Level::WARN.min(level))));
    let layer = LogLayer::new(hub.clone(), format).with_filter(filter);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).map_err(|error| {
        Error::new(ErrorKind::AlreadyExists, "this process has a log already").with_source(error)
    })?;
    Ok(hub)
}

/// The beginning of a text that a record can hold.
fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)])
}

/// What an event or a span says.
#[derive(Default)]
struct Fields {
    message: String,
    named: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = cut(value),
            name => drop(self.named.insert(name.to_owned(), cut(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Which call a span is of.
struct Call {
    driver: Option<String>,
    driver_type: Option<String>,
    operation: Option<String>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut field = |name| fields.named.remove(name);
        let call = Call {
            driver: field("driver"),
            driver_type: field("driver_type"),
            operation: field("operation"),
        };
        if let Some(span) = context.span(id).filter(|_| call.operation.is_some()) {
            span.extensions_mut().insert(call);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let of_driver = metadata.target().starts_with("jumpstarter_driver_");
        let own = metadata.target().starts_with("jumpstarter_exporter");
        let source = match metadata.target() {
            crate::hooks::BEFORE => Source::BeforeLeaseHook,
            crate::hooks::AFTER => Source::AfterLeaseHook,
            _ if of_driver => Source::Driver,
            _ => Source::System,
        };
        let mut record = Record::new(*metadata.level(), source, fields.message);
        record.fields = fields.named;
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans {
            if let Some(call) = span.extensions().get::<Call>() {
                record.driver.clone_from(&call.driver);
                record.driver_type.clone_from(&call.driver_type);
                record.operation.clone_from(&call.operation);
                if !own {
                    record.source = Source::Driver;
                }
                break;
            }
        }
        if self.hub.is_shown(record.level) {
            self.write(&record);
        }
        self.hub.publish(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[tokio::test]
    async fn a_slow_client_loses_its_oldest_and_is_told() {
        let hub = LogHub::default();
        let (mut slow, mut quick) = (hub.subscribe(), hub.subscribe());
        for number in 0..QUEUE + 10 {
            hub.publish(Record::new(Level::INFO, Source::System, number.to_string()));
            assert_eq!(quick.next().await.message, number.to_string());
        }
        assert_eq!(slow.next().await.message, "10 log records were lost: this client reads too slowly");
        assert_eq!(slow.next().await.message, "10");
    }

    #[test]
    fn a_quiet_hub_shows_warnings_and_errors() {
        let hub = LogHub::default();
        assert!(hub.is_shown(Level::DEBUG));
        hub.set_quiet(true);
        assert!(hub.is_shown(Level::ERROR) && hub.is_shown(Level::WARN) && !hub.is_shown(Level::INFO));
        hub.show_all();
        assert!(hub.is_shown(Level::INFO));
    }

    #[tokio::test]
    async fn endless_texts_are_cut() {
        let hub = LogHub::default();
        let mut subscription = hub.subscribe();
        let layer = LogLayer::new(hub, LogFormat::Text);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let text = "ü".repeat(1_500_000);
            let _entered = tracing::info_span!("call", driver = text, operation = text).entered();
            tracing::warn!(target: "acme", text, "{text}");
        });
        let record = subscription.next().await;
        assert!(record.message.starts_with("ü") && record.message.ends_with("ü…"));
        let wire = prost::Message::encoded_len(&record.to_wire("id"));
        assert!((MAX_TEXT_BYTES..8 * MAX_TEXT_BYTES).contains(&wire), "{wire} bytes");
    }

    #[tokio::test]
    async fn records_say_which_call_they_are_of() {
        let hub = LogHub::default();
        let mut subscription = hub.subscribe();
        let layer = LogLayer::new(hub, LogFormat::Text);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (driver, driver_type) = ("rack.relay", "acme.Relay");
            let _entered = tracing::info_span!("call", driver, driver_type, operation = "on").entered();
            tracing::warn!(target: "acme", volts = 3, "low");
        });
        let wire = subscription.next().await.to_wire("id");
        assert_eq!((wire.severity.as_str(), wire.source()), ("WARNING", LogSource::Driver));
        assert_eq!((wire.driver_type(), wire.operation()), ("acme.Relay", "on"));
        assert_eq!(wire.structured_fields["volts"], "3");
        assert_eq!(wire.structured_fields["driver"], "rack.relay");
        assert_eq!(wire.message, "low volts=3", "clients show the message alone: the path is not in it");
        assert!(wire.timestamp.unwrap().seconds > 0);
    }
}
