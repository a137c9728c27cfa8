//! The one mapping between errors and gRPC's statuses, in both directions.

use jumpstarter_driver_core::{Error, ErrorKind};
use tonic::{Code, Status};

/// What separates the hint in a status' message.
const HINT: &str = "\nhint: ";
/// Statuses travel in headers, which are bounded.
const MAX_MESSAGE: usize = 4096;

/// The status for an error: its kind as the code, its chain and hint as the message.
pub fn to_status(error: &Error) -> Status {
    let mut message = error.report();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    Status::new(to_code(error.kind()), message)
}

/// The error for a status, with its hint apart.
pub fn from_status(status: &Status) -> Error {
    let kind = from_code(status.code());
    match status.message().split_once(HINT) {
        Some((message, hint)) => Error::new(kind, message).with_hint(hint),
        None => Error::new(kind, status.message()),
    }
}

fn to_code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        _ => Code::Unknown,
    }
}

fn from_code(code: Code) -> ErrorKind {
    match code {
        Code::Cancelled => ErrorKind::Cancelled,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::Aborted => ErrorKind::Aborted,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Internal => ErrorKind::Internal,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::DataLoss,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Ok | Code::Unknown => ErrorKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "no such file").with_hint("create it").context("opening the disk");
            let back = from_status(&to_status(&error));
            assert_eq!(back.kind(), *kind);
            assert_eq!(back.report(), "opening the disk: no such file\nhint: create it");
        }
    }

    #[test]
    fn endless_messages_are_cut_at_a_character() {
        let status = to_status(&Error::internal("ü".repeat(MAX_MESSAGE)));
        assert!(status.message().len() <= MAX_MESSAGE + '…'.len_utf8());
    }
}
