//! The error of a call.

use h2::Reason;
use jumpstarter_driver_core::{Error, ErrorKind};

/// The failure of a call: at this end, at the other end, or between them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The other end answered with this error.
    #[error(transparent)]
    Answer(Error),
    /// The other end's data cannot be decoded, or exceeds a limit.
    #[error(transparent)]
    Unreadable(Error),
    /// The connection, or this call on it, broke off.
    #[error(transparent)]
    Broken(Error),
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Answer(error) | CallError::Unreadable(error) | CallError::Broken(error) => {
                error
            }
        }
    }
}

/// The kinds are those that gRPC maps HTTP/2's reasons to.
pub(crate) fn broken(error: h2::Error) -> CallError {
    let kind = match error.reason() {
        Some(Reason::REFUSED_STREAM) => ErrorKind::Unavailable,
        Some(Reason::CANCEL) => ErrorKind::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => ErrorKind::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => ErrorKind::PermissionDenied,
        Some(_) => ErrorKind::Internal,
        None => ErrorKind::Unknown,
    };
    CallError::Broken(Error::new(kind, "HTTP/2 failed").with_source(error))
}
