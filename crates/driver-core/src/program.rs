//! Programs of the exporter's host as values of a configuration.

use std::borrow::Cow;

use jumpstarter_supervise::Command;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A program of the exporter's host, and its arguments. No shell reads them. In a configuration it
/// is a list of at least one text: `[relay, on]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Program(Vec<String>);

impl Program {
    /// The program and its arguments; `None` without a name of the program.
    pub fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Option<Self> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        words.first().is_some_and(|program| !program.is_empty()).then_some(Self(words))
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        Command::new(&self.0[0]).args(&self.0[1..])
    }
}

impl TryFrom<Vec<String>> for Program {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        Self::new(words)
            .ok_or("names no program; write the program and its arguments, such as [relay, on]")
    }
}

impl JsonSchema for Program {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Program".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": {"type": "string"}})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_program_has_a_name() {
        let read = |value: Value| serde_json::from_value::<Program>(value);
        assert_eq!(read(json!(["relay", ""])).unwrap(), Program::new(["relay", ""]).unwrap());
        for wrong in [json!([]), json!([""]), json!(["", "on"])] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("names no program"), "{error}");
        }
        read(json!("relay on")).unwrap_err();
    }
}
