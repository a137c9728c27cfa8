//! Quotes text as a YAML value.
//!
//! It is handwritten because no maintained library writes YAML, and three strings need none.

use std::fmt::Write;

/// Plain if that is unambiguous, in single quotes if all of it is printable, else in double quotes.
pub(super) fn text(value: &str) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    if !value.is_empty() && value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return format!("'{}'", value.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            // Writing to a String cannot fail.
            _ => write!(quoted, "\\U{:08X}", u32::from(c)).unwrap_or_default(),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether every version of YAML reads it as this text without quotes.
fn is_plain(value: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];
    value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        assert_eq!(text(value), expected);
    }

    #[test]
    fn every_text_stays_itself() {
        check("demo-1.lab", "demo-1.lab");
        check("123", "'123'");
        check("Yes", "'Yes'");
        check("", "\"\"");
        check("a: b #c", "'a: b #c'");
        check("it's", "'it''s'");
        check("\"\\", "'\"\\'");
        check("a\nusers: []", "\"a\\U0000000Ausers: []\"");
        check("é\"\\", "\"\\U000000E9\\\"\\\\\"");
        check("\u{1f600}\u{7f}", "\"\\U0001F600\\U0000007F\"");
    }
}
