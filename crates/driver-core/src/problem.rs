//! Problems that a driver finds in its configuration.

use crate::error::Error;

/// A problem of a driver's configuration beyond its types: two keys that exclude each other, a port
/// used twice. Returned by [`DriverConfig::check`](crate::DriverConfig::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigProblem {
    /// The dotted path under `config`, as `hostfwd.web.hostport`; empty for the configuration as a
    /// whole.
    pub field: String,
    /// What was found and what was expected. Never the value of a secret.
    pub message: String,
    /// An instruction what to write instead, if known.
    pub hint: Option<String>,
}

impl ConfigProblem {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), hint: None }
    }

    /// A problem with the message and the hint of `error`.
    pub fn from_error(field: impl Into<String>, error: &Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { field: field.into(), message: error.to_string(), hint }
    }

    /// Adds an instruction what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
