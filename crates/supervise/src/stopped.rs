//! How a program was stopped.

use std::fmt;

use crate::error::SuperviseError;
use crate::status::ExitStatus;

/// How a program was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The name of the step that ended it (`SIGTERM`; the name of an `ask`; `SIGKILL`); `None` if
    /// it had ended before.
    pub by: Option<String>,
    /// How the program ended.
    pub status: ExitStatus,
    /// The earlier steps, which did not end it, each with the reason.
    pub in_vain: Vec<String>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(step) => write!(f, "stopped by {step} ({})", self.status)?,
            None => write!(f, "had already ended ({})", self.status)?,
        }
        match self.in_vain.as_slice() {
            [] => Ok(()),
            reasons => write!(f, "; in vain: {}", reasons.join(", ")),
        }
    }
}

/// `None` while a stop is running, then its result.
pub(crate) type StopResult = Option<Result<Stopped, SuperviseError>>;
