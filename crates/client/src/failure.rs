//! The reasons for which an attempt to connect fails.

use jumpstarter_driver_core::Error;

/// Why an attempt to connect failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The other side closed the connection before it answered.
    CutOff(Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
