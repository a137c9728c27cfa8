//! What a driver finds wrong with its own configuration.

/// What a driver finds wrong with its own configuration beyond its types: two keys that exclude
/// each other, a port used twice. Returned by [`DriverConfig::check`](crate::DriverConfig::check).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The dotted path under `config`, as `hostfwd.web.hostport`; empty for the configuration as a
    /// whole.
    pub field: String,
    /// What was found and what was expected. Never the value of a secret.
    pub message: String,
    /// What to write instead, if known.
    pub hint: Option<String>,
}

impl ConfigProblem {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), hint: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
