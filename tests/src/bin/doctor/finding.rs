//! One thing that was looked at, what came of it, and what to do.

use std::fmt;

use serde_json::{Value, json};

/// Whether a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as it should be.
    Good,
    /// Something is missing that is not needed for what was asked.
    Note,
    /// Something is missing that is needed.
    Fault,
}

impl Verdict {
    /// A fault if it is needed, else a note.
    pub(crate) fn missing(needed: bool) -> Self {
        if needed { Self::Fault } else { Self::Note }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fault => "FAULT",
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
    pub(crate) detail: String,
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn good(what: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, detail: detail.to_string(), remedy: None }
    }

    pub(crate) fn bad(
        what: impl Into<String>,
        verdict: Verdict,
        detail: impl fmt::Display,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), verdict, detail: detail.to_string(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "verdict": self.verdict.name().to_lowercase(),
            "detail": self.detail,
            "remedy": self.remedy,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5}  {:<20}  {}", self.verdict.name(), self.what, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n{:<29}{remedy}", ""),
            None => Ok(()),
        }
    }
}
