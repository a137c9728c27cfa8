//! Writes YAML that readers of YAML 1.1 (PyYAML) and of YAML 1.2 understand alike.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

/// A value as a YAML document, in the block style of Python's `yaml.safe_dump`: mappings keep their
/// order, and every character that is not printable ASCII is escaped.
///
/// ```
/// use serde_json::json;
///
/// let value = json!({"name": "lab", "labels": {"board": "rcar-s4"}, "tags": ["on", "a: b"]});
/// let text = jumpstarter_config::to_yaml(&value);
/// assert!(text.contains("labels:\n  board: rcar-s4\n"));
/// assert!(text.contains("tags:\n- 'on'\n- 'a: b'\n"));
/// ```
pub fn to_yaml(value: &Json) -> String {
    let mut text = String::new();
    match value {
        Json::Object(fields) if !fields.is_empty() => mapping(&mut text, fields, 0, false),
        Json::Array(items) if !items.is_empty() => list(&mut text, items, 0, false),
        other => {
            text += &scalar(other);
            text.push('\n');
        }
    }
    text
}

/// Writes the entries of a mapping. The first one continues the line if `is_begun`.
fn mapping(text: &mut String, fields: &Map<String, Json>, indent: usize, is_begun: bool) {
    for (index, (key, value)) in fields.iter().enumerate() {
        start(text, indent, is_begun && index == 0);
        text.push_str(&string(key));
        text.push(':');
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                mapping(text, fields, indent + 2, false);
            }
            // A list has the indentation of its key, as in Python.
            Json::Array(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent, false);
            }
            other => {
                text.push(' ');
                text.push_str(&scalar(other));
                text.push('\n');
            }
        }
    }
}

/// Writes the items of a list, as [`mapping`] its entries.
fn list(text: &mut String, items: &[Json], indent: usize, is_begun: bool) {
    for (index, item) in items.iter().enumerate() {
        start(text, indent, is_begun && index == 0);
        text.push_str("- ");
        match item {
            Json::Object(fields) if !fields.is_empty() => mapping(text, fields, indent + 2, true),
            Json::Array(items) if !items.is_empty() => list(text, items, indent + 2, true),
            other => {
                text.push_str(&scalar(other));
                text.push('\n');
            }
        }
    }
}

fn start(text: &mut String, indent: usize, is_begun: bool) {
    if !is_begun {
        text.extend(std::iter::repeat_n(' ', indent));
    }
}

/// A value on one line.
fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => string(text),
        Json::Array(_) => "[]".to_owned(),
        Json::Object(_) => "{}".to_owned(),
        Json::Number(number) => with_point(number.to_string()),
        other => other.to_string(),
    }
}

/// A number with an exponent has a point: YAML 1.1 reads `1e+30` as text.
fn with_point(number: String) -> String {
    match number.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0e{exponent}"),
        _ => number,
    }
}

fn string(text: &str) -> String {
    let is_printable = text.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ');
    match is_printable {
        true if is_plain(text) => text.to_owned(),
        true => format!("'{}'", text.replace('\'', "''")),
        false => double_quoted(text),
    }
}

/// Whether a text without quotes is read as this text everywhere.
fn is_plain(text: &str) -> bool {
    // YAML 1.1's words for true, false and null; everything else that begins with a letter is text.
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
    let simple = |letter: char| letter.is_ascii_alphanumeric() || " _-./:=@+,()~".contains(letter);
    begins
        && text.chars().all(simple)
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        let code = u32::from(letter);
        let written = match letter {
            '"' | '\\' => write!(quoted, "\\{letter}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            ' '..='~' => write!(quoted, "{letter}"),
            _ if code <= 0xff => write!(quoted, "\\x{code:02X}"),
            _ if code <= 0xffff => write!(quoted, "\\u{code:04X}"),
            _ => write!(quoted, "\\U{code:08X}"),
        };
        written.expect("writing to a text succeeds");
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml;

    #[test]
    fn our_reader_gets_back_what_is_written() {
        let value = json!({
            "empty": {"list": [], "map": {}, "text": "", "none": null},
            "nested": [[1, [2]], {"a": [{"b": 1, "c": {"d": true}}]}, [], {}],
            "numbers": [0, -1, 1.5, 1e30, 18_446_744_073_709_551_615_u64],
            "words": [
                "yes", "Off", "null", "~", "1", "1.5", "0x1f", "2026-01-01", "12:30", "-", "- a",
                "a: b", "a #b", "#a", "a:", " a", "a ", "'", "it's", "[a]", "{a}", "*a", "&a", "!a",
                "%a", "@a", "`a`", "a\nb", "\t", "\u{1b}[2J", "é", "\u{1f600}", "\"", "\\", "\u{85}",
                "localhost:8082", "/tmp/a b.yaml", "key=value", "a,b", "?", "? a", ".inf", "=", "<<",
            ],
            "on": "on", "a: b": 1, "": 2,
        });
        let text = to_yaml(&value);
        assert!(text.is_ascii() && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        let read = yaml::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
        assert_eq!(read.value.to_json(), value, "{text}");
    }

    #[test]
    fn the_form_is_that_of_python() {
        let value = json!({"a": {"b": ["x", {"c": 1, "d": [2]}]}, "e": "localhost:1", "f": "1"});
        let text = "a:\n  b:\n  - x\n  - c: 1\n    d:\n    - 2\ne: localhost:1\nf: '1'\n";
        assert_eq!(to_yaml(&value), text);
        assert_eq!(to_yaml(&json!([])), "[]\n");
        assert_eq!(to_yaml(&json!("a")), "a\n");
    }
}
