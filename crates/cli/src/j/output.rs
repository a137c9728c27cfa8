//! What is printed: data on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use jumpstarter_supervise::{StandardStream, was_closed};
use serde::Serialize;
use serde_json::Value;

use crate::arguments::Format;

/// How answers are printed.
///
/// As JSON each answer is one value on one line; a stream is a line for each of its values. What answers nothing
/// prints nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints an answer: `value` for programs, `text` for people.
    pub(crate) fn answer(self, value: &impl Serialize, text: impl Display) -> io::Result<()> {
        match self.format {
            Format::Json => line(&serde_json::to_string(value)?),
            Format::Text => line(&text.to_string()),
        }
    }

    /// Prints an answer of whatever form.
    pub(crate) fn value(self, value: &Value) -> io::Result<()> {
        match self.format {
            Format::Text if value.is_null() => Ok(()),
            Format::Text => line(&readable(value)),
            Format::Json => line(&value.to_string()),
        }
    }

    /// Tells people something that is not the answer.
    pub(crate) fn note(self, text: impl Display) {
        // Nobody is left to be told when this fails.
        writeln!(io::stderr().lock(), "{text}").ok();
    }
}

/// Written at once, so that a reader sees it when it happens.
///
/// # Errors
/// When standard output is closed, or its reader is: the answer would be lost.
fn line(text: &str) -> io::Result<()> {
    if was_closed(StandardStream::Output) {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "standard output is closed"));
    }
    let mut out = io::stdout().lock();
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

/// Text as it is, one line an item or field, deeper ones as JSON.
fn readable(value: &Value) -> String {
    let item = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let lines: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", item(value))).collect();
            lines.join("\n")
        }
        other => item(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_for_people() {
        assert_eq!(readable(&json!("two\nlines")), "two\nlines");
        assert_eq!(readable(&json!([1, "a", null])), "1\na\nnull");
        assert_eq!(readable(&json!({"a": "b", "c": [1, 2]})), "a: b\nc: [1,2]");
    }
}
