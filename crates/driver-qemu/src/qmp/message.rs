//! QMP's messages: greeting, answers and events.

use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::prelude::*;
use serde_json::Value;

/// Something that QEMU says unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpEvent {
    /// Its name, as `SHUTDOWN`.
    pub name: String,
    /// What it carries; null if nothing.
    pub data: Value,
    /// When it happened, by the host's clock.
    pub timestamp: Option<SystemTime>,
}

/// A message of QEMU's after the greeting.
pub(super) enum Message {
    Event(QmpEvent),
    /// To the request of this number.
    Answer(Option<u64>, Result<Value, Failure>),
    /// Neither: of a kind that a newer QEMU may have.
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
    /// Reads a line, or says why it is none of QMP's.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let mut object = object(line)?;
        if let Some(name) = object.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let timestamp = object.get("timestamp").and_then(timestamp);
            let data = object.remove("data").unwrap_or_default();
            return Ok(Self::Event(QmpEvent { name, data, timestamp }));
        }
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(value) = object.remove("return") {
            return Ok(Self::Answer(id, Ok(value)));
        }
        if let Some(error) = object.get("error") {
            let text = |key: &str| error[key].as_str().unwrap_or("?").to_owned();
            return Ok(Self::Answer(id, Err(Failure { class: text("class"), text: text("desc") })));
        }
        Ok(Self::Other)
    }
}

/// The version in the greeting.
pub(super) fn greeting(line: &[u8]) -> Result<Value> {
    let hint = "is something else than QMP at the other end?";
    let mut object = object(line).map_err(|why| Error::data_loss(why).with_hint(hint))?;
    match object.get_mut("QMP") {
        Some(greeting) => Ok(greeting["version"].take()),
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
    // QEMU writes -1 when it does not know.
    let seconds = Duration::from_secs(value["seconds"].as_u64()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + Duration::from_micros(value["microseconds"].as_u64()?))
}
