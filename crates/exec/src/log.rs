//! The log on standard error: a record a line, with the field names of Jumpstarter's other parts.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

use jumpstarter_driver_core::rfc3339;
use serde_json::{Map, Value, json};

/// Bytes of input and output that a debug record shows.
const PREVIEW: usize = 128;

/// The form of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("unknown log format '{other}': json or text")),
        }
    }
}

/// Writes records.
#[derive(Debug)]
pub(crate) struct Log {
    format: Format,
    debug: bool,
    fields: BTreeMap<String, String>,
}

impl Log {
    /// Writes `fields` with every record.
    pub(crate) fn new(format: Format, debug: bool, mut fields: BTreeMap<String, String>) -> Self {
        fields.entry("component".to_owned()).or_insert_with(|| "jumpstarter-exec".to_owned());
        Self { format, debug, fields }
    }

    pub(crate) fn info(&self, message: &str, fields: &[(&str, Value)]) {
        self.write("info", message, fields);
    }

    pub(crate) fn error(&self, message: &str, fields: &[(&str, Value)]) {
        self.write("error", message, fields);
    }

    pub(crate) fn debug(&self, message: &str, fields: impl FnOnce() -> Vec<(&'static str, Value)>) {
        if self.debug {
            self.write("debug", message, &fields());
        }
    }

    fn write(&self, level: &str, message: &str, fields: &[(&str, Value)]) {
        let mut line = self.record(level, &rfc3339(SystemTime::now()), message, fields);
        line.push('\n');
        // In one call: the records of several programs do not mix. A log that cannot be written is
        // no reason to end.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn record(&self, level: &str, time: &str, message: &str, fields: &[(&str, Value)]) -> String {
        match self.format {
            Format::Json => {
                let mut record = Map::new();
                for (key, value) in [("level", level), ("ts", time), ("msg", message)] {
                    record.insert(key.to_owned(), json!(value));
                }
                record.extend(self.fields.iter().map(|(key, value)| (key.clone(), json!(value))));
                record.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
                Value::Object(record).to_string()
            }
            Format::Text => {
                let mut text =
                    format!("{time} {level:>5} [{}] {message}", self.fields["component"]);
                let own = self.fields.iter().filter(|(key, _)| *key != "component");
                let own = own.map(|(key, value)| format!(" {key}={value}"));
                let further = fields.iter().map(|(key, value)| match value {
                    Value::String(value) => format!(" {key}={value}"),
                    value => format!(" {key}={value}"),
                });
                text.extend(own.chain(further));
                jumpstarter_text::line(&text).into_owned()
            }
        }
    }
}

/// The fields of a debug record about some bytes.
pub(crate) fn bytes(pid: u32, bytes: &[u8]) -> Vec<(&'static str, Value)> {
    let mut preview: String = String::from_utf8_lossy(&bytes[..bytes.len().min(PREVIEW)]).into();
    if bytes.len() > PREVIEW {
        preview.push('…');
    }
    vec![("pid", json!(pid)), ("bytes", json!(bytes.len())), ("preview", json!(preview))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_one_line() {
        let fields = BTreeMap::from([("exporter".to_owned(), "a".to_owned())]);
        let about = [("argv", json!(["x\n\u{1b}"])), ("pid", json!(3)), ("error", json!("e\nf"))];
        let json = Log::new(Format::Json, false, fields.clone());
        let record: Value =
            serde_json::from_str(&json.record("info", "T", "m", &about)).expect("JSON");
        let expected = json!({
            "level": "info", "ts": "T", "msg": "m", "component": "jumpstarter-exec", "exporter": "a",
            "argv": ["x\n\u{1b}"], "pid": 3, "error": "e\nf",
        });
        assert_eq!(record, expected);
        let text = Log::new(Format::Text, false, fields).record("info", "T", "m", &about);
        let expected =
            r#"T  info [jumpstarter-exec] m exporter=a argv=["x\n\u001b"] pid=3 error=e\nf"#;
        assert_eq!(text, expected);
    }
}
