//! Patterns to wait for on a console, and matches.

use std::borrow::Cow;
use std::fmt;

use jumpstarter_driver_core::{Error, Result};
use regex::bytes::Regex;

/// Text or a regular expression to wait for.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// The length of a literal: how far back a new search has to begin.
    literal: Option<usize>,
    shown: String,
}

impl Pattern {
    /// This text, as it is.
    pub fn literal(text: &str) -> Self {
        let escaped = regex::escape(text);
        let regex = regex::bytes::RegexBuilder::new(&escaped).size_limit(usize::MAX).build();
        let regex = regex.expect("escaped text is a valid expression of unlimited size");
        Self {
            regex,
            literal: Some(text.len()),
            shown: format!("`{}`", crate::visible::visible(text.as_bytes())),
        }
    }

    /// A regular expression in the syntax of the crate `regex`, over bytes: `(?-u:\xff)` is the
    /// byte 255, `(?m)` lets `^` and `$` match at lines (which consoles end with `\r\n`),
    /// `(?i-u)` ignores the case of ASCII letters.
    ///
    /// Pitfall: it is tried on the data so far. `\d+` matches the first digit of a number that is
    /// still arriving: include what follows, as in `(\d+)\r`.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong expression.
    pub fn regex(expression: &str) -> Result<Self> {
        let regex = Regex::new(expression).map_err(|error| {
            Error::invalid_argument(format!("`{expression}` is not a regular expression"))
                .with_source(error)
        })?;
        Ok(Self::from(regex))
    }

    /// The place of the first match in `buffer`, whose first `searched` bytes are known to contain
    /// none.
    pub(crate) fn place(&self, buffer: &[u8], searched: usize) -> Option<std::ops::Range<usize>> {
        let from = self.literal.map_or(0, |length| (searched + 1).saturating_sub(length));
        self.regex.find_at(buffer, from).map(|found| found.range())
    }

    /// The groups of the first match in `buffer`.
    pub(crate) fn groups(&self, buffer: &[u8]) -> Vec<Option<Vec<u8>>> {
        let captures = self.regex.captures(buffer);
        let captures = captures.iter().flat_map(|captures| captures.iter().skip(1));
        captures.map(|group| group.map(|group| group.as_bytes().to_vec())).collect()
    }

    /// The names of the groups, from the first; those without a name have none.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.regex.capture_names().skip(1).map(|name| name.map(str::to_owned)).collect()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::literal(text)
    }
}

impl From<&&str> for Pattern {
    fn from(text: &&str) -> Self {
        Self::literal(text)
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self::literal(&text)
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        let shown = format!("/{regex}/");
        Self { regex, literal: None, shown }
    }
}

impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}

/// A match of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Match {
    /// The index of the pattern, from 0.
    pub index: usize,
    /// Everything between the previous match and this one.
    pub before: Vec<u8>,
    /// The matching bytes.
    pub matched: Vec<u8>,
    /// The groups of a regular expression, from its first.
    pub groups: Vec<Option<Vec<u8>>>,
    /// Their names.
    pub(crate) names: Vec<Option<String>>,
}

impl Match {
    /// [`before`](Self::before) as text; bytes that are not UTF-8 become `�`.
    pub fn before_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.before)
    }

    /// [`matched`](Self::matched) as text; bytes that are not UTF-8 become `�`.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.matched)
    }

    /// A group of the regular expression as text, from 1 as in the expression; `None` if it took no
    /// part.
    pub fn group(&self, number: usize) -> Option<Cow<'_, str>> {
        let group = self.groups.get(number.checked_sub(1)?)?;
        group.as_deref().map(String::from_utf8_lossy)
    }

    /// The groups that took part and have a name, as in `(?<version>\S+)`, as text.
    pub fn named_groups(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let groups = self.names.iter().zip(&self.groups);
        groups.filter_map(|(name, group)| {
            Some((name.as_deref()?, String::from_utf8_lossy(group.as_deref()?)))
        })
    }
}
