//! `j log`: prints the exporter's log.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use futures_util::StreamExt;
use jumpstarter_client::LogRecord;
use jumpstarter_driver_core::{Error, Span};
use serde_json::{Map, Value, json};

use super::context::Context;
use super::verb::Say;
use crate::fault::{Result, SUCCESS};

/// Severities, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    Driver,
    System,
    BeforeLeaseHook,
    AfterLeaseHook,
}

/// Follows the exporter's log
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints the last 256 records of this lease (of an exporter in Python, those that no client has read yet), then every
new one. Without --count and --for it continues until Ctrl-C.

Examples:
  j log
  j log --level warning --output json
  j log --for 1s              prints what was logged, without waiting for more

JSON: {\"time\" (seconds since 1970), \"severity\", \"source\", \"driver\", \"driver_type\", \"operation\", \"message\",
\"fields\"} for each record")]
pub(crate) struct Log {
    /// The least severe records to show
    #[arg(long, value_enum, ignore_case = true, default_value = "debug")]
    level: Level,
    /// Only records of this source
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// End after this many records
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
    /// End after this time: seconds, or a time such as 2min
    #[arg(id = "for", long = "for", value_name = "TIME")]
    span: Option<Span>,
}

impl Say for Log {
    const NAME: &'static str = "log";

    async fn run(self, context: &Context) -> Result<u8> {
        match self.span {
            Some(span) => tokio::time::timeout(span.as_duration(), self.follow(context))
                .await
                .unwrap_or(Ok(SUCCESS)),
            None => self.follow(context).await,
        }
    }
}

impl Log {
    async fn follow(&self, context: &Context) -> Result<u8> {
        let exporter = context.opened.exporter.as_ref().ok_or_else(|| {
            Error::unimplemented("a device in this process has no log to follow")
                .with_hint("read standard error, where its drivers log: see --log-level")
        })?;
        let mut left = self.count;
        let mut records = exporter.logs().await?;
        tracing::debug!("following the exporter's log");
        while left != Some(0) {
            let Some(record) = records.next().await.transpose()? else { break };
            if self.is_wanted(&record) {
                context.output.answer(&value(&record), text(&record))?;
                left = left.map(|left| left.saturating_sub(1));
            }
        }
        Ok(SUCCESS)
    }

    fn is_wanted(&self, record: &LogRecord) -> bool {
        let name = |source: Source| source.to_possible_value();
        let source = self.source.and_then(name);
        let level = Level::from_str(&record.severity, true);
        // A record of an unknown level is shown.
        level.map_or(true, |level| level >= self.level)
            && source.is_none_or(|source| record.source == Some(source.get_name()))
    }
}

fn text(record: &LogRecord) -> String {
    let since = record.timestamp.and_then(since_1970).unwrap_or_default();
    let (seconds, milliseconds) = (since.as_secs() % 86_400, since.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let parts = [driver(record), record.operation.as_deref()];
    let whose = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let whose = match (whose.is_empty(), record.source) {
        (false, _) => format!(" {whose}:"),
        (true, Some(source)) => format!(" {source}:"),
        (true, None) => String::new(),
    };
    let LogRecord { severity, message, .. } = record;
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z {severity:<8}{whose} {message}"
    )
}

/// The driver of the record's call: its path, or at least its type.
fn driver(record: &LogRecord) -> Option<&str> {
    record.driver.as_deref().or(record.driver_type.as_deref())
}

fn since_1970(time: SystemTime) -> Option<Duration> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn value(record: &LogRecord) -> Value {
    let fields: Map<String, Value> =
        record.fields.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "time": record.timestamp.and_then(since_1970).map(|since| since.as_secs_f64()),
        "severity": record.severity,
        "source": record.source,
        "driver": record.driver,
        "driver_type": record.driver_type,
        "operation": record.operation,
        "message": record.message,
        "fields": fields,
    })
}
