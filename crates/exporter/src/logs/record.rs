//! One record of the log, and its form on the wire.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::SystemTime;

use jumpstarter_protocol::Timestamp;
use jumpstarter_protocol::fields;
use jumpstarter_protocol::v1::{LogSource as WireSource, LogStreamResponse};
use tracing::Level;

/// The target of records about calls.
pub(crate) const CALLS: &str = "jumpstarter_exporter::operation";
/// The target of records about clients that come and go.
pub(crate) const VISITS: &str = "jumpstarter_exporter::visits";

/// The author of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogSource {
    /// A driver, during a call or by itself.
    Driver,
    /// Output of the beforeLease hook.
    BeforeLeaseHook,
    /// Output of the afterLease hook.
    AfterLeaseHook,
    /// The exporter itself.
    System,
}

impl LogSource {
    fn is_hook(self) -> bool {
        matches!(self, Self::BeforeLeaseHook | Self::AfterLeaseHook)
    }
}

/// The records that a listener gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSelection {
    /// All records.
    #[default]
    All,
    /// The output of hooks.
    Hooks,
}

impl LogSelection {
    pub(super) fn has(self, record: &LogRecord) -> bool {
        self == Self::All || record.source.is_hook()
    }
}

/// The topic of a record, if it decides where the record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogTopic {
    /// The start or the end of a call. Clients know these records by their text.
    Call,
    /// A client that comes or goes, which only the operator sees.
    Visit,
    /// The progress of a transfer: for current listeners, and for programs.
    Progress,
    /// Anything else.
    Other,
}

/// One record of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogRecord {
    /// When it was written.
    pub time: SystemTime,
    /// How severe it is.
    pub level: Level,
    /// The author of the record.
    pub source: LogSource,
    /// The text, one line or several.
    pub message: String,
    /// The called driver, by its path.
    pub driver: Option<String>,
    /// The category of that driver: `power`, `storage`, `network`, `serial`, `composite` or
    /// `other`.
    pub driver_type: Option<String>,
    /// The method that was called.
    pub operation: Option<String>,
    /// Further fields, by name.
    pub fields: BTreeMap<String, String>,
    /// Decides where the record goes.
    pub topic: LogTopic,
}

impl LogSource {
    /// The target of `tracing` by which [`LogLayer`](crate::LogLayer) recognises output of the
    /// beforeLease hook.
    pub const BEFORE_LEASE_HOOK: &str = "jumpstarter_exporter::hook::before";
    /// The same for the afterLease hook.
    pub const AFTER_LEASE_HOOK: &str = "jumpstarter_exporter::hook::after";

    /// The author for a target; the span may say that it is a driver.
    pub(super) fn from_target(target: &str) -> Self {
        match target {
            Self::BEFORE_LEASE_HOOK => Self::BeforeLeaseHook,
            Self::AFTER_LEASE_HOOK => Self::AfterLeaseHook,
            CALLS => Self::Driver,
            _ if target.starts_with("jumpstarter_driver_") => Self::Driver,
            _ => Self::System,
        }
    }
}

impl LogRecord {
    /// Makes a record with the current time.
    pub fn new(level: Level, source: LogSource, message: impl Into<String>) -> Self {
        Self {
            time: SystemTime::now(),
            level,
            source,
            message: message.into(),
            driver: None,
            driver_type: None,
            operation: None,
            fields: BTreeMap::new(),
            topic: LogTopic::Other,
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
            LogSource::Driver => WireSource::Driver,
            LogSource::BeforeLeaseHook => WireSource::BeforeLeaseHook,
            LogSource::AfterLeaseHook => WireSource::AfterLeaseHook,
            LogSource::System => WireSource::System,
        };
        let mut message = self.message.clone();
        // Clients show only the message.
        for (name, value) in self
            .fields
            .iter()
            .filter(|_| !matches!(self.topic, LogTopic::Call | LogTopic::Progress))
        {
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
