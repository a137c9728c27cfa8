//! The log of the other exporter, as records of this one.

use futures_util::StreamExt;
use jumpstarter_client::{Exporter, LogRecord};
use tokio_util::task::AbortOnDropHandle;
use tracing::Level;

/// The prefix of records about calls, which this exporter makes itself.
const CALLS: &str = "Operation ";

/// Forwards the log of `exporter` until the connection ends; its drivers are shown at or below
/// `place`.
pub(crate) fn follow(exporter: &Exporter, place: &str) -> AbortOnDropHandle<()> {
    let (exporter, place) = (exporter.clone(), place.to_owned());
    let device = exporter.device().clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        // The task must not keep the connection: the stream of the log does until its end.
        let log = exporter.logs().await;
        drop(exporter);
        match log {
            Ok(mut log) => {
                while let Some(Ok(record)) = log.next().await {
                    write_record(record, &place);
                }
            }
            // An exporter in Python answers with its first record: the end may come before. Where
            // the connection is lost, each call says so.
            Err(error) => {
                tracing::debug!(error = error.report(), "the log of `{place}` cannot be followed");
            }
        }
        drop(device);
    }))
}

fn write_record(record: LogRecord, place: &str) {
    let operation = record.operation.as_deref().unwrap_or_default();
    if record.message.starts_with(CALLS) && !operation.is_empty() {
        return;
    }
    let driver = match record.driver.as_deref() {
        None | Some("") => place.to_owned(),
        Some(below) => format!("{place}.{below}"),
    };
    let driver_type = record.driver_type.as_deref().unwrap_or("other");
    let span = tracing::error_span!("call", driver, driver_type, operation);
    span.in_scope(|| write_message(&record.severity, &record.message));
}

/// Writes a record of the driver at `place`.
pub(crate) fn write(severity: &str, message: &str, place: &str) {
    let span = tracing::error_span!("call", driver = place, operation = "");
    span.in_scope(|| write_message(severity, message));
}

fn write_message(severity: &str, message: &str) {
    match level(severity) {
        Level::ERROR => tracing::error!("{message}"),
        Level::WARN => tracing::warn!("{message}"),
        Level::INFO => tracing::info!("{message}"),
        _ => tracing::debug!("{message}"),
    }
}

/// The level of a severity by Python's names.
fn level(severity: &str) -> Level {
    match severity {
        "CRITICAL" | "ERROR" => Level::ERROR,
        "WARNING" => Level::WARN,
        "INFO" => Level::INFO,
        _ => Level::DEBUG,
    }
}
