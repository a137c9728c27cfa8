//! QMP's messages: greeting, answers and events.

use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::prelude::*;
use serde_json::Value;

/// The longest event whose data is kept, in bytes; the longest known event of QEMU has about 1 KiB.
const EVENT_LIMIT: usize = 64 << 10;
/// The longest name of an event, in bytes.
const NAME_LIMIT: usize = 128;
/// How many characters of an error's text are kept.
const TEXT_LIMIT: usize = 4096;

/// An event that QEMU sent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QmpEvent {
    /// The event's name in QEMU's reference, as `SHUTDOWN`.
    pub name: String,
    /// The event's data; null if it has none, `{"omitted_bytes": …}` if it is larger than any known
    /// event of QEMU.
    pub data: Value,
    /// The time by the host's clock.
    pub timestamp: Option<SystemTime>,
}

/// A message of QEMU's after the greeting.
pub(super) enum Message {
    Event(QmpEvent),
    /// To the request of this number.
    Answer(Option<u64>, Result<Value, Failure>),
    /// Neither: a kind that a newer QEMU may have.
    Other,
}

/// Why QEMU did not execute a command.
pub(super) struct Failure {
    class: String,
    text: String,
}

impl Failure {
    pub(super) fn into_error(self, command: &str) -> Error {
        let kind = match self.class.as_str() {
            "CommandNotFound" => ErrorKind::Unimplemented,
            "DeviceNotFound" => ErrorKind::NotFound,
            _ => ErrorKind::FailedPrecondition,
        };
        Error::new(kind, format!("QEMU refused the QMP command {command}: {}", self.text))
    }
}

impl Message {
    /// Parses a line; fails with the reason if it is not a message of QMP.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let mut object = object(line)?;
        if let Some(name) = object.get("event").and_then(Value::as_str) {
            if name.len() > NAME_LIMIT {
                return Ok(Self::Other);
            }
            let name = name.to_owned();
            let timestamp = object.get("timestamp").and_then(timestamp);
            // Many of them are kept for slow readers.
            let data = match line.len() {
                ..=EVENT_LIMIT => object.remove("data").unwrap_or_default(),
                bytes => serde_json::json!({ "omitted_bytes": bytes }),
            };
            return Ok(Self::Event(QmpEvent { name, data, timestamp }));
        }
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(value) = object.remove("return") {
            return Ok(Self::Answer(id, Ok(value)));
        }
        if let Some(error) = object.get("error") {
            let text = |key: &str| {
                let text: String =
                    error[key].as_str().unwrap_or("?").chars().take(TEXT_LIMIT).collect();
                text
            };
            return Ok(Self::Answer(id, Err(Failure { class: text("class"), text: text("desc") })));
        }
        Ok(Self::Other)
    }
}

/// The version in the greeting.
pub(super) fn greeting(line: &[u8]) -> Result<Value> {
    let hint = "check that QEMU is at the other end";
    let mut object = object(line).map_err(|why| Error::data_loss(why).with_hint(hint))?;
    match object.get_mut("QMP") {
        // Not by index, which panics for a value that is not an object.
        Some(greeting) => Ok(greeting.get_mut("version").map(Value::take).unwrap_or_default()),
        None => {
            let first = message_start(line);
            Err(Error::data_loss(format!("it sent no greeting, but `{first}`")).with_hint(hint))
        }
    }
}

fn object(line: &[u8]) -> Result<serde_json::Map<String, Value>, String> {
    serde_json::from_slice(line)
        .map_err(|error| format!("it sent `{}`, no QMP message: {error}", message_start(line)))
}

fn message_start(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).escape_debug().to_string()
}

fn timestamp(value: &Value) -> Option<SystemTime> {
    // QEMU writes -1 if it does not know.
    let seconds = Duration::from_secs(value["seconds"].as_u64()?);
    let microseconds = Duration::from_micros(value["microseconds"].as_u64()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds.checked_add(microseconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: &str) -> Option<QmpEvent> {
        match Message::parse(line.as_bytes()) {
            Ok(Message::Event(event)) => Some(event),
            _ => None,
        }
    }

    /// A guest that broke out of QEMU may send anything.
    #[test]
    fn what_no_qemu_says_is_bounded() {
        let late = |seconds: u64, microseconds: u64| {
            let timestamp = serde_json::json!({"seconds": seconds, "microseconds": microseconds});
            let line = serde_json::json!({"event": "STOP", "timestamp": timestamp}).to_string();
            event(&line).unwrap().timestamp
        };
        assert!(late(1, 5).is_some());
        assert_eq!(late(u64::MAX, u64::MAX), None);
        let large =
            serde_json::json!({"event": "STOP", "data": "x".repeat(EVENT_LIMIT)}).to_string();
        assert_eq!(
            event(&large).unwrap().data,
            serde_json::json!({ "omitted_bytes": large.len() })
        );
        assert!(event(&format!(r#"{{"event": "{}"}}"#, "x".repeat(NAME_LIMIT + 1))).is_none());
        for odd in ["1", "[]", "null", "\"x\"", "{}"] {
            let line = format!(r#"{{"QMP": {odd}}}"#);
            assert_eq!(greeting(line.as_bytes()).unwrap(), Value::Null, "{line}");
        }
        for odd in ["1", "[]", "null", "\"x\""] {
            let line =
                format!(r#"{{"error": {odd}, "timestamp": {odd}, "event": {odd}, "id": {odd}}}"#);
            Message::parse(line.as_bytes()).map(drop).unwrap();
        }
        let deep =
            format!(r#"{{"event": "X", "data": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(Message::parse(deep.as_bytes()).is_err());
    }
}
