//! The faults of an exporter file: all of them at once, each with its place.

use std::fmt::{self, Write as _};

use jumpstarter_driver_core::Error;
use serde::Serialize;
use serde_json::Value;

/// A place in a text, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

/// The path of a value, and the key that owns it, for faults about missing parts.
#[derive(Clone)]
pub(super) struct At {
    pub(super) path: String,
    pub(super) owner: Place,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// The line, from 1; 0 if the file could not be read.
    pub line: usize,
    /// The character in the line, from 1; 0 if the file could not be read.
    pub column: usize,
    /// The keys that lead to it, as `export.qemu.config.mem`; empty for the whole file.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    /// An instruction what to write instead, if known.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault at a place of the file.
    pub(super) fn new(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line: place.line,
            column: place.column,
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// `{"line": …, "column": …, "path": …, "message": …, "hint": …}`.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "line": self.line, "column": self.column, "path": self.path,
            "message": self.message, "hint": self.hint,
        })
    }

    /// Adds an instruction that remedies the fault.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    /// `9:14: export.qemu.config.memm: unknown field; did you mean `mem`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        What(self).fmt(f)
    }
}

/// A fault without its place.
struct What<'a>(&'a Fault);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { path, message, hint, .. } = self.0;
        let mut line = OneLine(f);
        if !path.is_empty() {
            write!(line, "{path}: ")?;
        }
        line.write_str(message)?;
        match hint {
            Some(hint) => write!(line, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Keeps a file's text on one line: control characters become escapes.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.char_indices().next_back().filter(|(_, last)| last.is_control()) {
                Some((end, last)) => write!(self.0, "{}{}", &piece[..end], last.escape_default())?,
                None => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// A file's name, on one line.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(f).write_str(self.0)
    }
}

/// Findings in an exporter file that are not faults but may be mistakes; `{}` prints each like a
/// fault.
///
/// They never contain values of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigWarnings(Vec<Fault>);

impl ConfigWarnings {
    pub(super) fn new(mut warnings: Vec<Fault>) -> Self {
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        warnings.dedup();
        Self(warnings)
    }

    /// The warnings, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line for each warning, each with a newline: `lab.yaml:9:1: warning: exprot: unknown
    /// field; did you mean `export`?`.
    pub fn to_text(&self, origin: &str) -> String {
        let line = |warning: &Fault| {
            let Fault { line, column, .. } = warning;
            format!("{}:{line}:{column}: warning: {}\n", Name(origin), What(warning))
        };
        self.iter().map(line).collect()
    }
}

/// The faults of one exporter file, in the order of the file; never empty.
///
/// `{}` prints one line for each fault, as `lab.yaml:9:14: export.qemu.config.memm: unknown field;
/// did you mean `mem`?`. They never contain values of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults {
    origin: String,
    faults: Vec<Fault>,
}

impl ConfigFaults {
    /// The faults of the file called `origin`, sorted by place and without duplicates.
    pub(super) fn new(origin: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        Self { origin: origin.to_owned(), faults }
    }

    /// The fault of a file that could not be read.
    pub(super) fn unreadable(origin: &str, message: impl Into<String>) -> Self {
        let fault =
            Fault { line: 0, column: 0, path: String::new(), message: message.into(), hint: None };
        Self { origin: origin.to_owned(), faults: vec![fault] }
    }

    /// The file's name in messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The faults, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }

    /// The number of faults: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// `{"file": …, "faults": [{"line": …, "column": …, "path": …, "message": …, "hint": …}, …]}`.
    pub fn to_json(&self) -> Value {
        let faults: Vec<Value> = self.iter().map(Fault::to_json).collect();
        serde_json::json!({ "file": self.origin, "faults": faults })
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let (newline, colon) =
                (if index > 0 { "\n" } else { "" }, if fault.line > 0 { ":" } else { ": " });
            write!(f, "{newline}{}{colon}{fault}", Name(&self.origin))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

impl<'a> IntoIterator for &'a ConfigFaults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<ConfigFaults> for Error {
    /// [`ErrorKind::InvalidArgument`](jumpstarter_driver_core::ErrorKind::InvalidArgument), with
    /// one line for each fault.
    fn from(faults: ConfigFaults) -> Self {
        Error::invalid_argument(faults.to_string())
    }
}

/// `path.key`; a key that would be misread is quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| !c.is_whitespace() && !".[]\"".contains(c));
    let key = if plain { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
