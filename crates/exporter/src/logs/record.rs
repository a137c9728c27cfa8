//! One record of the log, and how it travels.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::SystemTime;

use jumpstarter_protocol::Timestamp;
use jumpstarter_protocol::fields;
use jumpstarter_protocol::v1::{LogSource, LogStreamResponse};
use tracing::Level;

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

/// What a record reports, where that decides to which places it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A call: that it started, or how it ended. Clients know these records by their text.
    Call,
    /// A client that comes or goes, which is the operator's business alone.
    Visit,
    /// How far a transfer is: for who listens now, and for programs.
    Progress,
    /// Anything else.
    Other,
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
    /// The category of that driver: `power`, `storage`, `network`, `serial`, `composite` or
    /// `other`.
    pub driver_type: Option<String>,
    /// The method that was called.
    pub operation: Option<String>,
    /// Everything else, by name.
    pub fields: BTreeMap<String, String>,
    /// What it reports.
    pub(crate) topic: Topic,
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
            topic: Topic::Other,
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
        // Clients show the message alone.
        for (name, value) in
            self.fields.iter().filter(|_| !matches!(self.topic, Topic::Call | Topic::Progress))
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
