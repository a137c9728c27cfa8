//! The format of records on standard error: text logs are made only here.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::time::SystemTime;

use jumpstarter_driver_core::rfc3339;
use jumpstarter_exporter::{LogRecord, LogSource, LogTopic};
use jumpstarter_text::{json, line};
use tracing::Level;

/// The format of records on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Formats a record as one line: its texts can neither break the line nor reach a terminal
/// unescaped.
pub(super) fn write(record: &LogRecord, format: LogFormat, to_journal: bool) -> String {
    let written = match format {
        LogFormat::Text => text(record),
        LogFormat::Json => object(record),
    };
    match to_journal {
        true => format!("<{}>{written}\n", priority(record.level)),
        false => format!("{written}\n"),
    }
}

fn text(record: &LogRecord) -> String {
    let mut written = format!("{} {:<7} ", rfc3339(record.time), record.severity());
    let driver = record.driver.as_deref().filter(|driver| !driver.is_empty());
    let operation = record.operation.as_deref().filter(|_| record.topic == LogTopic::Call);
    let of: Vec<&str> = driver.into_iter().chain(operation).collect();
    if !of.is_empty() {
        let _infallible = write!(written, "{}: ", line(&of.join(" ")));
    }
    written.push_str(&line(&record.message));
    for (name, value) in &record.fields {
        // The hint of an error's report is on the report's second line.
        let value = value.replace("\nhint: ", "; hint: ");
        let _infallible = write!(written, " {}={}", line(name), line(&value));
    }
    written
}

fn object(record: &LogRecord) -> String {
    let since = record.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let source = match record.source {
        LogSource::Driver => "Driver",
        LogSource::BeforeLeaseHook => "BeforeLeaseHook",
        LogSource::AfterLeaseHook => "AfterLeaseHook",
        _ => "System",
    };
    let object = serde_json::json!({
        "time": since.as_secs_f64(),
        "severity": record.severity(),
        "source": source,
        "driver": record.driver,
        "driver_type": record.driver_type,
        "operation": record.operation,
        "message": record.message,
        "fields": record.fields,
    });
    json(&object.to_string()).into_owned()
}

/// The priority of a line in the journal, as in `sd-daemon(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Whether standard error is the journal's, which reads a line's priority from a prefix.
pub(super) fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    is_stream(&stream, std::io::stderr())
}

/// Whether a descriptor is the stream whose device and inode systemd gave: a redirected one is not.
fn is_stream(stream: &str, descriptor: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    rustix::fs::fstat(descriptor)
        .is_ok_and(|found| found.st_dev.to_string() == device && found.st_ino.to_string() == inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn record(message: &str) -> LogRecord {
        let mut record = LogRecord::new(Level::WARN, LogSource::Driver, message);
        record.time = UNIX_EPOCH + Duration::from_millis(1_709_210_096_007);
        record.driver = Some("rack.power".to_owned());
        record.operation = Some("on".to_owned());
        record
    }

    #[test]
    fn text_has_the_time_and_is_one_line_whatever_it_says() {
        let mut low = record("low\nERROR forged\x1b]0;title\x07");
        low.fields.insert("volts".to_owned(), "3\r\u{9b}31m\u{202e}".to_owned());
        assert_eq!(
            write(&low, LogFormat::Text, false),
            "2024-02-29T12:34:56.007Z WARNING rack.power: low\\nERROR forged\\u{1b}]0;title\\u{7} \
             volts=3\\r\\u{9b}31m\\u{202e}\n"
        );
    }

    #[test]
    fn a_hint_follows_its_error() {
        let mut failed = record("failed");
        failed.fields.insert("error".to_owned(), "no such file\nhint: create it".to_owned());
        let written = write(&failed, LogFormat::Text, false);
        assert!(written.ends_with(" error=no such file; hint: create it\n"), "{written}");
    }

    #[test]
    fn a_call_is_named_with_its_method() {
        let mut call = record("Operation started");
        call.topic = LogTopic::Call;
        call.operation = Some("on\nERROR forged".to_owned());
        let written = write(&call, LogFormat::Text, false);
        assert!(
            written.ends_with("WARNING rack.power on\\nERROR forged: Operation started\n"),
            "{written}"
        );
    }

    #[test]
    fn json_is_one_line_and_keeps_its_values() {
        let low = record("low\n\u{9b}31m\u{202e}");
        let written = write(&low, LogFormat::Json, false);
        assert!(
            written.trim_end().chars().all(|letter| letter.is_ascii() && !letter.is_control()),
            "{written}"
        );
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["message"], "low\n\u{9b}31m\u{202e}");
        assert_eq!((&read["source"], &read["severity"]), (&"Driver".into(), &"WARNING".into()));
    }

    #[test]
    fn the_journal_gets_priorities() {
        for (level, prefix) in [
            (Level::ERROR, "<3>"),
            (Level::WARN, "<4>"),
            (Level::INFO, "<6>"),
            (Level::DEBUG, "<7>"),
        ] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let mut record = record("");
                record.level = level;
                assert!(write(&record, format, true).starts_with(prefix));
                assert!(!write(&record, format, false).starts_with('<'));
            }
        }
    }

    #[test]
    fn the_journal_is_known_by_its_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let found = rustix::fs::fstat(&file).unwrap();
        assert!(is_stream(&format!("{}:{}", found.st_dev, found.st_ino), &file));
        for other in ["", "8", "8:1", &format!("{}:{}", found.st_dev, found.st_ino + 1)] {
            assert!(!is_stream(other, &file), "{other}");
        }
    }
}
