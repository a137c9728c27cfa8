//! How a call fails.

use h2::Reason;
use jumpstarter_driver_core::{Error, ErrorKind};

/// The failure of a call: which end, or what between them, failed it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The other end answered the call with this error.
    #[error(transparent)]
    Answer(Error),
    /// What the other end sent cannot be read, or is too much for this one.
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

/// The kinds are those by which gRPC names the reasons of HTTP/2.
impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        let kind = match error.reason() {
            Some(Reason::REFUSED_STREAM) => ErrorKind::Unavailable,
            Some(Reason::CANCEL) => ErrorKind::Cancelled,
            Some(Reason::ENHANCE_YOUR_CALM) => ErrorKind::ResourceExhausted,
            Some(Reason::INADEQUATE_SECURITY) => ErrorKind::PermissionDenied,
            Some(_) => ErrorKind::Internal,
            None => ErrorKind::Unknown,
        };
        Self::Broken(Error::new(kind, "HTTP/2 failed").with_source(error))
    }
}
