//! `j log`: the exporter's log.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::{Arg, ArgMatches, Command, value_parser};
use futures_util::StreamExt;
use jumpstarter_client::LogRecord;
use jumpstarter_driver_core::{Error, Span};
use serde_json::{Map, Value, json};

use super::context::Context;
use super::fault::SUCCESS;
use super::verbs::Verb;

pub(crate) const LOG: Verb =
    Verb { name: "log", command, run: |context, matches| Box::pin(log(context, matches)) };

/// From the least severe on.
const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

fn command(command: Command) -> Command {
    command
        .about("Follows the exporter's log")
        .arg(
            Arg::new("level")
                .long("level")
                .value_name("LEVEL")
                .ignore_case(true)
                .default_value("debug")
                .value_parser(["debug", "info", "warning", "error", "critical"])
                .help("The least severe records that are shown"),
        )
        .arg(
            Arg::new("source")
                .long("source")
                .value_name("SOURCE")
                .value_parser(["driver", "system", "before-lease-hook", "after-lease-hook"])
                .help("Only records of this source"),
        )
        .arg(
            Arg::new("count")
                .short('n')
                .long("count")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64))
                .help("End after so many records"),
        )
        .arg(
            Arg::new("for")
                .long("for")
                .value_name("TIME")
                .value_parser(value_parser!(Span))
                .help("End after this time: seconds, or a time such as 2min"),
        )
        .after_help(
            "\
The last 256 records of this lease (of an exporter in Python, those that no client has had yet), then every one from
now on. Without --count and --for it goes on until Ctrl-C.

Examples:
  j log
  j log --level warning --output json
  j log --for 1s              what was logged, without waiting for more

JSON: {\"time\" (seconds since 1970), \"severity\", \"source\", \"driver\", \"driver_type\", \"operation\", \"message\",
\"fields\"} for each record",
        )
}

async fn log(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let exporter = context.exporter.as_ref().ok_or_else(|| {
        Error::unimplemented("a device in this process has no log to follow")
            .with_hint("its drivers log to standard error: see --log-level")
    })?;
    let rank = |name: &str| LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
    let least =
        matches.get_one::<String>("level").and_then(|level| rank(level)).unwrap_or_default();
    let source = matches.get_one::<String>("source").map(String::as_str);
    let mut left = matches.get_one::<u64>("count").copied();
    let following = async {
        let mut records = exporter.logs().await?;
        tracing::debug!("following the exporter's log");
        while left != Some(0) {
            let Some(record) = records.next().await.transpose()? else { break };
            let wanted = rank(&record.severity).is_none_or(|rank| rank >= least)
                && source.is_none_or(|source| record.source == Some(source));
            if wanted {
                context.output.answer(&value(&record), text(&record))?;
                left = left.map(|left| left.saturating_sub(1));
            }
        }
        Ok(SUCCESS)
    };
    match matches.get_one::<Span>("for") {
        Some(span) => {
            tokio::time::timeout(span.as_duration(), following).await.unwrap_or(Ok(SUCCESS))
        }
        None => following.await,
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

/// Whose call it was: the driver's path, or at least its type.
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
