//! The one mapping between errors and gRPC's statuses, in both directions.

use jumpstarter_driver_core::{Error, ErrorKind};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The trailer that holds the kind of a driver's error whose code says something else.
const KIND: &str = "jumpstarter-error-kind";

/// What separates the hint in a status' message.
const HINT: &str = "\nhint: ";
/// What a message may take in its header, where some characters take three bytes: clients accept 8
/// KiB of headers.
const MAX_ENCODED: usize = 6 * 1024;
/// Of which a hint may take so much.
const MAX_HINT: usize = 2 * 1024;

/// The status for an error: its kind as the code, its chain and hint as the message, cut where it
/// is too long.
///
/// A driver's own `NotFound` and `FailedPrecondition` go as `Unknown`, with the kind in a trailer:
/// clients in Python take these two codes for a method that is not implemented, and for an exporter
/// that is not ready. Only [refusals](Error::is_refusal) have them.
pub fn to_status(error: &Error) -> Status {
    let report = error.report();
    let message = match report.split_once(HINT) {
        _ if encoded_length(&report) <= MAX_ENCODED => report,
        Some((message, hint)) => {
            let hint = cut(hint, MAX_HINT);
            format!(
                "{}{HINT}{hint}",
                cut(message, MAX_ENCODED - encoded_length(&hint) - 3 * HINT.len())
            )
        }
        None => cut(&report, MAX_ENCODED),
    };
    let code = to_code(error.kind());
    match code {
        Code::NotFound | Code::FailedPrecondition if !error.is_refusal() => {
            let kind = if code == Code::NotFound { "not_found" } else { "failed_precondition" };
            let mut metadata = MetadataMap::new();
            metadata.insert(KIND, MetadataValue::from_static(kind));
            Status::with_metadata(Code::Unknown, message, metadata)
        }
        code => Status::new(code, message),
    }
}

/// The kind of an error that a status stands for.
fn kind_of(status: &Status) -> ErrorKind {
    match (status.code(), status.metadata().get(KIND).map(MetadataValue::as_bytes)) {
        (Code::Unknown, Some(b"not_found")) => ErrorKind::NotFound,
        (Code::Unknown, Some(b"failed_precondition")) => ErrorKind::FailedPrecondition,
        (code, _) => from_code(code),
    }
}

/// How many bytes a character takes in a header: all that could be percent-encoded counts as if it
/// were.
fn encoded(character: char) -> usize {
    match character.is_ascii_alphanumeric() || "-_.,:;/()[]'=+*".contains(character) {
        true => 1,
        false => 3 * character.len_utf8(),
    }
}

fn encoded_length(text: &str) -> usize {
    text.chars().map(encoded).sum()
}

/// The text, and where it takes more than that, its beginning with an ellipsis.
fn cut(text: &str, limit: usize) -> String {
    if encoded_length(text) <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub(encoded('…'));
    let fits = |character: &char| match left.checked_sub(encoded(*character)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push('…');
    kept
}

/// The error for a status, with its hint apart.
pub fn from_status(status: &Status) -> Error {
    let kind = kind_of(status);
    let error = match status.message().split_once(HINT) {
        Some((message, hint)) => Error::new(kind, message).with_hint(hint),
        None => Error::new(kind, status.message()),
    };
    match status.code() {
        Code::NotFound | Code::FailedPrecondition => error.refused(),
        _ => error,
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
            let error = Error::new(*kind, "no such file")
                .with_hint("create it")
                .context("opening the disk");
            let back = from_status(&to_status(&error));
            assert_eq!(back.kind(), *kind);
            assert_eq!(back.report(), "opening the disk: no such file\nhint: create it");
        }
    }

    #[test]
    fn only_refusals_have_the_codes_that_clients_in_python_give_a_meaning() {
        for (kind, code) in [
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::FailedPrecondition, Code::FailedPrecondition),
        ] {
            let sent = |error: &Error| {
                let mut headers = http::HeaderMap::new();
                to_status(error).add_header(&mut headers).unwrap();
                Status::from_header_map(&headers).unwrap()
            };
            let drivers = sent(&Error::new(kind, "nothing was flashed").context("dumping"));
            assert_eq!(drivers.code(), Code::Unknown);
            let back = from_status(&drivers);
            assert_eq!((back.kind(), back.is_refusal()), (kind, false));
            let refusal = sent(&Error::new(kind, "no such method").refused().context("calling"));
            assert_eq!(refusal.code(), code);
            let back = from_status(&refusal);
            assert_eq!((back.kind(), back.is_refusal()), (kind, true));
        }
    }

    #[test]
    fn endless_messages_fit_into_a_header() {
        for text in ["a", "ü", "%", " ", "\n", "\u{1f980}", "a b%ü", "\0"] {
            for hint in ["", "try again", &"ö ".repeat(5000)] {
                let mut error = Error::internal(text.repeat(10_000));
                if !hint.is_empty() {
                    error = error.with_hint(hint);
                }
                let status = to_status(&error);
                let mut headers = tonic::metadata::MetadataMap::new().into_headers();
                status.add_header(&mut headers).unwrap();
                let length = headers["grpc-message"].len();
                assert!(length <= MAX_ENCODED, "{length} bytes of {text:?}");
                assert!(length > MAX_ENCODED / 4, "{length} bytes of {text:?} are few");
                assert!(
                    status.message().contains('…') && from_status(&status).report().contains('…')
                );
                assert!(hint.len() > 100 || status.message().ends_with(hint), "the hint is whole");
            }
        }
        let short = "ü".repeat(100);
        assert_eq!(to_status(&Error::internal(short.clone())).message(), short);
    }
}
