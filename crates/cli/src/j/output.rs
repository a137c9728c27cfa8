//! Prints data on standard output and everything else on standard error.

use std::fmt::Display;
use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::format::Format;
use crate::print::{self, line};

/// The format and destination of answers.
///
/// As JSON each answer is one value on one line; a stream is a line for each of its values. A
/// command without an answer prints `null`. For people an answer is text; a command without one
/// prints nothing.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    format: Format,
    environment: Environment,
}

impl Output {
    pub(crate) fn new(format: Format, environment: Environment) -> Self {
        Self { format, environment }
    }

    /// The streams that answers are printed on.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Whether the answers are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints an answer: `value` for programs, `text` on one line for people.
    pub(crate) fn answer(&self, value: &impl Serialize, text: impl Display) -> io::Result<()> {
        self.answer_lines(value, line(&text.to_string()))
    }

    /// As [`answer`](Self::answer), with a text of several trusted lines.
    pub(crate) fn answer_lines(
        &self,
        value: &impl Serialize,
        text: impl Display,
    ) -> io::Result<()> {
        match self.format {
            Format::Json => self.environment.print(&print::json(value)?),
            Format::Text => self.environment.print(&text.to_string()),
        }
    }

    /// Reports success without an answer.
    pub(crate) fn done(&self) -> Result<u8> {
        self.value(&Value::Null)?;
        Ok(SUCCESS)
    }

    /// Prints an answer of any type.
    pub(crate) fn value(&self, value: &Value) -> io::Result<()> {
        match self.format {
            Format::Text if value.is_null() => Ok(()),
            Format::Text => self.environment.print(&readable(value)),
            Format::Json => self.environment.print(&print::json(value)?),
        }
    }

    /// Prints a note for people, on one line, which is not the answer.
    pub(crate) fn note(&self, text: impl Display) {
        self.environment.report(line(&text.to_string()));
    }

    /// Reports an error with its hint, each on its line.
    pub(crate) fn note_lines(&self, text: &str) {
        text.lines().for_each(|line| self.note(line));
    }
}

/// A text with its lines; of a larger value one line for each item or field, deeper ones as JSON.
fn readable(value: &Value) -> String {
    let item = |value: &Value| match value {
        Value::String(text) => line(text).into_owned(),
        other => jumpstarter_text::json(&other.to_string()).into_owned(),
    };
    match value {
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let lines: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", line(name), item(value)))
                .collect();
            lines.join("\n")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
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
        assert_eq!(readable(&json!(["a\nb", ["\u{9b}"]])), "a\\nb\n[\"\\u009b\"]");
        assert_eq!(readable(&json!({"a\nb": "c\u{1b}"})), "a\\nb: c\\u{1b}");
        assert_eq!(readable(&json!({"a": "b", "c": [1, 2]})), "a: b\nc: [1,2]");
    }
}
