//! The error of driver calls: a kind for code, a chain of contexts for people, and a hint.

use std::error::Error as StdError;
use std::fmt;

use jumpstarter_supervise::SuperviseError;

/// The result of a driver call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, for code. One to one with gRPC's status codes
/// (<https://grpc.io/docs/guides/status-codes/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller cancelled the call (`CANCELLED`).
    Cancelled,
    /// No other kind fits (`UNKNOWN`).
    Unknown,
    /// The caller gave a value that can never work (`INVALID_ARGUMENT`).
    InvalidArgument,
    /// The deadline expired (`DEADLINE_EXCEEDED`).
    DeadlineExceeded,
    /// A path, method, file or partition does not exist (`NOT_FOUND`).
    NotFound,
    /// The name is already in use (`ALREADY_EXISTS`).
    AlreadyExists,
    /// The caller may not do this (`PERMISSION_DENIED`).
    PermissionDenied,
    /// Disk, memory or another bounded resource is exhausted (`RESOURCE_EXHAUSTED`).
    ResourceExhausted,
    /// The device is in the wrong state for this call (`FAILED_PRECONDITION`).
    FailedPrecondition,
    /// Another call took precedence (`ABORTED`).
    Aborted,
    /// The driver cannot do this (`UNIMPLEMENTED`).
    Unimplemented,
    /// The device failed (`INTERNAL`).
    Internal,
    /// The other side cannot be reached now (`UNAVAILABLE`).
    Unavailable,
    /// Data is damaged or incomplete (`DATA_LOSS`).
    DataLoss,
    /// The caller is not authenticated (`UNAUTHENTICATED`).
    Unauthenticated,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: &'static [ErrorKind] = &[
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];
}

/// An error with its kind, its context, its causes and a hint.
///
/// `{}` prints the outermost message, `{:#}` the whole chain on one line, [`Error::report`] (and
/// `{:?}`) the chain with the hint last.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    refused: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            refused: false,
            source: None,
        }))
    }

    /// [`ErrorKind::Cancelled`].
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, message)
    }

    /// [`ErrorKind::Unknown`].
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unknown, message)
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// [`ErrorKind::DeadlineExceeded`].
    pub fn deadline_exceeded(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DeadlineExceeded, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::AlreadyExists`].
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::AlreadyExists, message)
    }

    /// [`ErrorKind::PermissionDenied`].
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::PermissionDenied, message)
    }

    /// [`ErrorKind::ResourceExhausted`].
    pub fn resource_exhausted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceExhausted, message)
    }

    /// [`ErrorKind::FailedPrecondition`].
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }

    /// [`ErrorKind::Aborted`].
    pub fn aborted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Aborted, message)
    }

    /// [`ErrorKind::Unimplemented`].
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::DataLoss`].
    pub fn data_loss(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataLoss, message)
    }

    /// [`ErrorKind::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthenticated, message)
    }

    /// Adds the cause, which the chain prints last.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds an instruction that remedies the error; printed last. The innermost hint of a chain
    /// wins.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what was being done when the error occurred; the kind stays.
    #[must_use]
    pub fn context(self, doing: impl Into<String>) -> Self {
        let kind = self.kind();
        Self::new(kind, doing).with_source(self)
    }

    /// A copy for a second caller: kind, hint, and the chain as one message.
    pub fn again(&self) -> Self {
        let mut again = Self::new(self.kind(), format!("{self:#}"));
        again.0.refused = self.is_refusal();
        match self.hint() {
            Some(hint) => again.with_hint(hint),
            None => again,
        }
    }

    /// Marks the error of a call that reached no driver: the driver or method does not exist, or no
    /// calls are accepted now.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.0.refused = true;
        self
    }

    /// Whether the call reached no driver. Contexts around such an error keep the mark.
    pub fn is_refusal(&self) -> bool {
        let inner = self.0.source.as_deref().and_then(|source| source.downcast_ref::<Error>());
        self.0.refused || inner.is_some_and(Error::is_refusal)
    }

    /// The kind of the outermost error, for code.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The innermost hint of the chain, if any.
    pub fn hint(&self) -> Option<&str> {
        let inner = self.0.source.as_deref().and_then(|source| source.downcast_ref::<Error>());
        inner.and_then(Error::hint).or(self.0.hint.as_deref())
    }

    /// The chain on one line and the hint, if any, on a second: the text for people.
    pub fn report(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self:#}\nhint: {hint}"),
            None => format!("{self:#}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if f.alternate() {
            let mut next = self.source();
            while let Some(cause) = next {
                write!(f, ": {cause}")?;
                next = cause.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind(), self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
            return inner
                .map_or_else(|| Error::internal("unknown input/output error"), |inner| *inner);
        }
        Self::new(from_io(error.kind()), error.to_string())
    }
}

fn from_io(kind: std::io::ErrorKind) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match kind {
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied => ErrorKind::PermissionDenied,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::InvalidInput => ErrorKind::InvalidArgument,
        Io::InvalidData | Io::UnexpectedEof => ErrorKind::DataLoss,
        Io::TimedOut => ErrorKind::DeadlineExceeded,
        Io::StorageFull | Io::OutOfMemory | Io::QuotaExceeded | Io::FileTooLarge => {
            ErrorKind::ResourceExhausted
        }
        Io::ResourceBusy | Io::ReadOnlyFilesystem => ErrorKind::FailedPrecondition,
        Io::InvalidFilename | Io::IsADirectory | Io::NotADirectory => ErrorKind::InvalidArgument,
        Io::Unsupported => ErrorKind::Unimplemented,
        Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::NotConnected
        | Io::BrokenPipe
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::AddrNotAvailable
        | Io::AddrInUse => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

impl From<SuperviseError> for Error {
    fn from(error: SuperviseError) -> Self {
        let kind = match &error {
            SuperviseError::NotFound { .. } => ErrorKind::NotFound,
            SuperviseError::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            SuperviseError::Folder { source, .. } | SuperviseError::Start { source, .. } => {
                from_io(source.kind())
            }
            SuperviseError::Deadline { .. } => ErrorKind::DeadlineExceeded,
            SuperviseError::OutputTooLarge { .. } => ErrorKind::ResourceExhausted,
            _ => ErrorKind::Internal,
        };
        let hint = error.hint();
        let error = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<Error> for std::io::Error {
    /// Wraps the error so that the conversion back returns it unchanged.
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

/// Adds context to the error of a result.
pub trait ResultExt<T> {
    /// Adds what was being done.
    ///
    /// # Errors
    /// The same kind, with `doing` in front of the message.
    fn context(self, doing: impl Into<String>) -> Result<T>;

    /// Adds what was being done; the text is made only for an error.
    ///
    /// # Errors
    /// The same kind, with the text in front of the message.
    fn with_context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn with_context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_kind_and_hint() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = Error::from(cause)
            .with_hint("create it")
            .context("opening disk")
            .context("flashing root");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(format!("{error}"), "flashing root");
        assert_eq!(error.report(), "flashing root: opening disk: no such file\nhint: create it");
    }

    #[test]
    fn an_error_of_a_program_keeps_its_hint() {
        let missing = SuperviseError::NotFound {
            program: "qemu".to_owned(),
            what: "there is no such program in PATH".to_owned(),
            hint: "install it".to_owned(),
        };
        let error = Error::from(missing).context("starting the machine");
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("install it")));
        let text = "starting the machine: cannot run `qemu`: there is no such program in PATH";
        assert_eq!(format!("{error:#}"), text);
    }

    #[test]
    fn survives_a_trip_through_io() {
        let io = std::io::Error::from(Error::data_loss("truncated").with_hint("get it again"));
        let back = Error::from(io);
        assert_eq!((back.kind(), back.hint()), (ErrorKind::DataLoss, Some("get it again")));
    }
}
