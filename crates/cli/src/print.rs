//! Text for people and for programs, made safe before it is printed.
//!
//! A text that must stay on its line, such as a name, passes [`line`] where it is inserted;
//! [`crate::environment`] does the rest.

use std::io::{self, Write};

use clap::error::ContextValue;
use jumpstarter_driver_core::Error;
pub(crate) use jumpstarter_text::line;
use jumpstarter_text::{block, truncated};
use serde::Serialize;

use crate::environment::Environment;

/// The most of an error's text that is shown: its end rarely says what went wrong.
const MAX_ERROR_BYTES: usize = 32 * 1024;

/// The most of a line that lists show.
const MAX_LINE_BYTES: usize = 300;

/// A value as JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|text| jumpstarter_text::json(&text).into_owned())
}

/// A value as JSON on several lines.
pub(crate) fn pretty_json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| jumpstarter_text::json(&text).into_owned())
}

/// A value as YAML, whose last line has its newline: printable ASCII only.
pub(crate) fn yaml(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_value(value).map(|value| jumpstarter_config::to_yaml(&value))
}

/// An error and its hint for people. Their further lines are indented, so that they cannot pose as
/// errors or hints of this program.
pub(crate) fn report(error: &Error) -> String {
    let message = format!("error: {}", indented(&format!("{error:#}")));
    match error.hint() {
        Some(hint) => format!("{message}\nhint: {}", indented(hint)),
        None => message,
    }
}

fn indented(text: &str) -> String {
    block(&truncated(text, MAX_ERROR_BYTES)).trim_end().replace('\n', "\n  ")
}

/// The hint of a value's type for a value that the parser refused.
pub(crate) fn hint_of(usage: &clap::Error) -> Option<&str> {
    std::error::Error::source(usage)?.downcast_ref::<Error>()?.hint()
}

/// Escapes newlines in the words that the parser of command lines quotes: a word cannot pose as a
/// line.
pub(crate) fn on_its_line(mut usage: clap::Error) -> clap::Error {
    let quoted: Vec<_> = usage
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(word) => {
                Some((kind, ContextValue::String(line(word).into_owned())))
            }
            ContextValue::Strings(words) => {
                let words = words.iter().map(|word| line(word).into_owned());
                Some((kind, ContextValue::Strings(words.collect())))
            }
            // Each advice on one line.
            ContextValue::StyledStrs(texts) => {
                let texts = texts.iter().map(|text| text.ansi().to_string().replace('\n', "\\n"));
                Some((kind, ContextValue::StyledStrs(texts.map(Into::into).collect())))
            }
            _ => None,
        })
        .collect();
    for (kind, value) in quoted {
        usage.insert(kind, value);
    }
    usage
}

/// The parser's message, without the advice to pass an unknown option as a value.
pub(crate) fn usage_text(usage: &clap::Error) -> String {
    plain(&coloured(usage))
}

/// The same in colours, and with no other control sequence.
fn coloured(usage: &clap::Error) -> String {
    let is_advice = |line: &&str| line.contains("tip:") && line.contains("to pass '");
    // The plain text lacks a part of what it quotes.
    let text = usage.render().ansi().to_string();
    // The message of a value's type quotes the value.
    let text = match std::error::Error::source(usage).map(ToString::to_string) {
        Some(said) => text.replacen(&said, &line(&said), 1),
        None => text,
    };
    let text: String = text.split_inclusive('\n').filter(|line| !is_advice(line)).collect();
    // Removing the only line leaves an empty paragraph.
    styled(&text.replace("\n\n\n", "\n\n"))
}

/// The parser's message `text` with the hint of a value's type.
fn with_hint(usage: &clap::Error, text: String) -> String {
    match hint_of(usage) {
        Some(hint) => {
            text.replacen("\n\nFor more", &format!("\nhint: {}\n\nFor more", line(hint)), 1)
        }
        None => text,
    }
}

/// Prints the parser's message, in colours on a terminal.
///
/// # Errors
/// Fails if the stream cannot be written.
pub(crate) fn usage(usage: &clap::Error, environment: &Environment) -> io::Result<()> {
    let styled = || with_hint(usage, coloured(usage));
    let plain = || with_hint(usage, usage_text(usage));
    environment.help(usage.use_stderr(), styled, plain)
}

/// The length in bytes of a colour's parameters, which stand between `ESC [` and `m`.
fn colour_length(piece: &str) -> usize {
    piece.find(|letter: char| !letter.is_ascii_digit() && letter != ';').unwrap_or(piece.len())
}

/// [`styled`] text without its colours.
fn plain(styled: &str) -> String {
    let mut pieces = styled.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.get(colour_length(piece) + 1..).unwrap_or(""))
}

/// Makes a text safe but keeps its colours.
fn styled(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut safe = block(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let end = colour_length(piece);
        match piece[end..].strip_prefix('m') {
            Some(rest) => safe.extend(["\u{1b}[", &piece[..end], "m", &block(rest)]),
            None => safe.extend([line("\u{1b}[").as_ref(), &block(piece)]),
        }
    }
    safe
}

/// The first line of a text, for lists.
pub(crate) fn first_line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    line(&truncated(first, MAX_LINE_BYTES)).into_owned()
}

/// A text for a page of help. Its further lines are indented, so that they cannot pose as headings.
pub(crate) fn paragraphs(text: &str) -> String {
    indented(text)
}

/// Makes panics print what they quote safely, as everything else.
pub(crate) fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name").to_owned();
        let mut report = format!("thread `{name}` {panic}\n");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            report += &format!("{trace}\n");
        }
        // A failure cannot be reported anywhere else.
        io::stderr().lock().write_all(block(&report).as_bytes()).ok();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::ByteSize;

    #[test]
    fn colours_pass_and_nothing_else() {
        let text =
            "\u{1b}[1mUsage:\u{1b}[0m j\n\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}[38;5;1mred\u{1b}[\u{202e}";
        assert_eq!(
            styled(text),
            "\u{1b}[1mUsage:\u{1b}[0m j\n\\u{1b}[2J\\u{1b}]0;x\\u{7}\u{1b}[38;5;1mred\\u{1b}[\\u{202e}"
        );
    }

    #[test]
    fn lines_of_others_are_no_errors_and_hints_of_ours() {
        let error = Error::internal("broken\nerror: all lost\r\n\u{1b}[2J")
            .with_hint("wait\nhint: run it again\n");
        assert_eq!(
            report(&error),
            "error: broken\n  error: all lost\n  \\u{1b}[2J\nhint: wait\n  hint: run it again"
        );
        let endless = report(&Error::internal("ü".repeat(1 << 20)));
        assert!(endless.len() < MAX_ERROR_BYTES + 20 && endless.ends_with('…'));
    }

    #[test]
    fn quoted_words_begin_no_line() {
        let size = clap::Arg::new("size").long("size").value_parser(clap::value_parser!(ByteSize));
        let command = clap::Command::new("jmp").arg(size).subcommand(clap::Command::new("run"));
        for word in ["--x", "x", "--size=1"].map(|word| format!("{word}\u{1b}[31m\nerror: y")) {
            let words = ["jmp", &word];
            let usage = on_its_line(command.clone().try_get_matches_from(words).unwrap_err());
            assert!(!coloured(&usage).replace("\u{1b}[31merror:", "").contains("\u{1b}[31m"));
            let text = usage_text(&usage);
            assert!(text.contains(r"\u{1b}[31m\nerror: y") && !text.contains('\u{1b}'), "{text}");
            assert_eq!(
                text.lines().filter(|line| line.starts_with("error: ")).count(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn json_is_safe_and_means_the_same() {
        let value = serde_json::json!({"\u{9b}a": "\u{7f}\u{202e}\n\u{1b}"});
        let text = json(&value).unwrap();
        assert!(text.is_ascii() && !text.contains(char::is_control), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&pretty_json(&value).unwrap()).unwrap(),
            value
        );
    }
}
