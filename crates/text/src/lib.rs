//! Makes foreign text safe for a terminal and for a log.
//!
//! A peer, an image or a guest chooses names, descriptions and error messages. Written to a
//! terminal unchanged, they can set its title, fill its clipboard, hide text or forge log lines.
//! Each foreign text passes [`line()`], [`block`] or [`json`] before it reaches a terminal or a
//! text log.
//!
//! ```
//! let line = jumpstarter_text::line("tea\x1b]0;pwned\x07\nERROR all lost");
//! assert_eq!(line, r"tea\u{1b}]0;pwned\u{7}\nERROR all lost");
//! assert_eq!(jumpstarter_text::line("Grüße, 世界"), "Grüße, 世界");
//! ```

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Text on one line: each character that a terminal interprets or does not show is written as an
/// escape, as in Rust (`\n`, `\u{1b}`).
///
/// These are the control characters (C0, DEL, C1), line and paragraph separators, bidirectional
/// controls and other invisible format characters. A backslash stays as it is, so the result is for
/// reading, not for parsing.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe, |character, out| match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => push_code(other, out),
    })
}

/// Text of several lines: as [`line()`], but line feeds and tabs stay. CR LF becomes LF.
pub fn block(text: &str) -> Cow<'_, str> {
    let keep = |character| matches!(character, '\n' | '\t');
    let text = match text.contains("\r\n") {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    };
    let is_escaped = |character| is_unsafe(character) && !keep(character);
    match text {
        Cow::Borrowed(text) => escaped(text, is_escaped, push_code),
        Cow::Owned(text) => Cow::Owned(escaped(&text, is_escaped, push_code).into_owned()),
    }
}

/// Serialised JSON with the same characters as `\u` escapes, so that it is safe to show and still
/// parses to the same value. The line feeds and blanks between JSON's tokens stay.
pub fn json(serialised: &str) -> Cow<'_, str> {
    // In valid JSON all that is_unsafe finds beyond layout stands within strings.
    let is_escaped = |character| is_unsafe(character) && !matches!(character, '\n' | '\r' | '\t');
    escaped(serialised, is_escaped, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a String succeeds");
        }
    })
}

/// The beginning of a text: at most `max_bytes` bytes, whole characters, and `…` where something
/// was left out.
pub fn truncated(text: &str, max_bytes: usize) -> Cow<'_, str> {
    match text.len() <= max_bytes {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(max_bytes)])),
    }
}

/// Displays a value as [`line()`] shows its text.
#[derive(Debug, Clone, Copy)]
pub struct Line<T>(pub T);

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&line(&self.0.to_string()))
    }
}

/// Displays a value as [`block`] shows its text.
#[derive(Debug, Clone, Copy)]
pub struct Block<T>(pub T);

impl<T: Display> Display for Block<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&block(&self.0.to_string()))
    }
}

fn escaped(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    push_escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(clean);
    for character in rest.chars() {
        match is_escaped(character) {
            true => push_escape(character, &mut out),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

fn push_code(character: char, out: &mut String) {
    write!(out, "\\u{{{:x}}}", u32::from(character)).expect("writing to a String succeeds");
}

/// Whether a terminal interprets the character, or shows nothing for it.
///
/// The zero-width joiners U+200C and U+200D stay: scripts and emoji need them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_interprets_is_escaped() {
        for (input, expected) in [
            ("plain ünïcode 👩\u{200d}🔬", "plain ünïcode 👩\u{200d}🔬"),
            ("\x1b]52;c;cm0=\x07", r"\u{1b}]52;c;cm0=\u{7}"),
            ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
            ("\u{9b}31m\u{85}\x7f\0", r"\u{9b}31m\u{85}\u{7f}\u{0}"),
            ("a\u{202e}b\u{2066}c\u{2028}d\u{200b}", r"a\u{202e}b\u{2066}c\u{2028}d\u{200b}"),
        ] {
            assert_eq!(line(input), expected);
            assert_eq!(Line(input).to_string(), expected);
        }
        assert!(matches!(line("as it is"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_block_keeps_its_lines() {
        assert_eq!(block("one\r\n\ttwo\x1b[2J\rthree\n"), "one\n\ttwo\\u{1b}[2J\\u{d}three\n");
    }

    #[test]
    fn json_keeps_its_value() {
        assert_eq!(
            json("{\n  \"a\": \"\u{9b}31m\u{202e}\u{e0041}ü\"\n}"),
            concat!("{\n  \"a\": \"\\u009b31m\\u202e", "\\udb40\\udc41ü\"\n}")
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(truncated("äöü", 3), "ä…");
        assert_eq!(truncated("äöü", 6), "äöü");
    }
}
