//! The mapping between errors and gRPC's statuses, in both directions.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use jumpstarter_driver_core::{Error, ErrorKind};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const MESSAGE_NAME: HeaderName = HeaderName::from_static(MESSAGE);
/// The trailer with the kind of a driver's error whose code differs.
const KIND: &str = "jumpstarter-error-kind";
const KIND_NAME: HeaderName = HeaderName::from_static(KIND);

/// The characters that are percent-encoded in a message, beside those outside ASCII; the standard
/// requires only `%` and control characters.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'?')
    .add(b'{')
    .add(b'}');

/// The separator of the hint in a status' message.
const HINT: &str = "\nhint: ";
/// The most bytes of a message in its header, where some characters take three bytes: clients
/// accept 8 KiB of headers.
const MAX_ENCODED: usize = 6 * 1024;
/// The most bytes of a hint within them.
const MAX_HINT: usize = 2 * 1024;

/// Writes the status of an answer into its trailers: the error's kind as the code, its chain and
/// hint as the message, shortened if it is too long.
///
/// A driver's own `NotFound` and `FailedPrecondition` are sent as `UNKNOWN`, with the kind beside
/// it: [clients in Python](crate::python) give these two codes another meaning. Only
/// [refusals](Error::is_refusal) use them.
pub fn write_status(headers: &mut HeaderMap, outcome: Result<(), &Error>) {
    let Err(error) = outcome else {
        headers.insert(STATUS, HeaderValue::from(0));
        return;
    };
    let code = to_code(error.kind());
    let own_kind = match error.kind() {
        _ if error.is_refusal() => None,
        ErrorKind::NotFound => Some("not_found"),
        ErrorKind::FailedPrecondition => Some("failed_precondition"),
        _ => None,
    };
    headers.insert(STATUS, HeaderValue::from(own_kind.map_or(code, |_| UNKNOWN)));
    headers.extend(own_kind.map(|kind| (KIND_NAME, HeaderValue::from_static(kind))));
    let message = message(error);
    if !message.is_empty() {
        let encoded = utf8_percent_encode(&message, ENCODED).to_string();
        // It is ASCII without control characters.
        headers.extend(HeaderValue::try_from(encoded).ok().map(|message| (MESSAGE_NAME, message)));
    }
}

/// Reads the status of an answer from its trailers; the error's hint is separate. `None` without a
/// status.
pub fn read_status(headers: &HeaderMap) -> Option<Result<(), Error>> {
    let code = headers.get(STATUS)?.to_str().ok().and_then(|code| code.parse().ok());
    let code = code.unwrap_or(UNKNOWN);
    if code == 0 {
        return Some(Ok(()));
    }
    let kind = match (code, headers.get(KIND).map(HeaderValue::as_bytes)) {
        (UNKNOWN, Some(b"not_found")) => ErrorKind::NotFound,
        (UNKNOWN, Some(b"failed_precondition")) => ErrorKind::FailedPrecondition,
        (code, _) => from_code(code),
    };
    let message = headers.get(MESSAGE).map_or(&[][..], HeaderValue::as_bytes);
    let message = percent_decode(message).decode_utf8_lossy();
    let (message, hint) = match message.split_once(HINT) {
        Some((message, hint)) => (message, Some(hint)),
        None => (&*message, None),
    };
    let error = match message.trim() {
        "" => Error::new(kind, format!("the exporter gives no reason ({})", name(code))),
        _ => Error::new(kind, message),
    };
    let error = match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    let is_refusal =
        code != UNKNOWN && matches!(kind, ErrorKind::NotFound | ErrorKind::FailedPrecondition);
    Some(Err(if is_refusal { error.refused() } else { error }))
}

fn message(error: &Error) -> String {
    let report = error.report();
    match report.split_once(HINT) {
        _ if encoded_length(&report) <= MAX_ENCODED => report,
        Some((message, hint)) => {
            let hint = cut(hint, MAX_HINT);
            format!(
                "{}{HINT}{hint}",
                cut(message, MAX_ENCODED - encoded_length(&hint) - 3 * HINT.len())
            )
        }
        None => cut(&report, MAX_ENCODED),
    }
}

/// The bytes of a character in a header: every character that could be percent-encoded counts as if
/// it were.
fn encoded(character: char) -> usize {
    match character.is_ascii_alphanumeric() || "-_.,:;/()[]'=+*".contains(character) {
        true => 1,
        false => 3 * character.len_utf8(),
    }
}

fn encoded_length(text: &str) -> usize {
    text.chars().map(encoded).sum()
}

/// The text; a longer one is cut, with an ellipsis at its end.
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

/// gRPC's codes (<https://grpc.io/docs/guides/status-codes/>).
const CODES: [(ErrorKind, u16, &str); 15] = [
    (ErrorKind::Cancelled, 1, "CANCELLED"),
    (ErrorKind::Unknown, UNKNOWN, "UNKNOWN"),
    (ErrorKind::InvalidArgument, 3, "INVALID_ARGUMENT"),
    (ErrorKind::DeadlineExceeded, 4, "DEADLINE_EXCEEDED"),
    (ErrorKind::NotFound, 5, "NOT_FOUND"),
    (ErrorKind::AlreadyExists, 6, "ALREADY_EXISTS"),
    (ErrorKind::PermissionDenied, 7, "PERMISSION_DENIED"),
    (ErrorKind::ResourceExhausted, 8, "RESOURCE_EXHAUSTED"),
    (ErrorKind::FailedPrecondition, 9, "FAILED_PRECONDITION"),
    (ErrorKind::Aborted, 10, "ABORTED"),
    (ErrorKind::Unimplemented, 12, "UNIMPLEMENTED"),
    (ErrorKind::Internal, 13, "INTERNAL"),
    (ErrorKind::Unavailable, 14, "UNAVAILABLE"),
    (ErrorKind::DataLoss, 15, "DATA_LOSS"),
    (ErrorKind::Unauthenticated, 16, "UNAUTHENTICATED"),
];
const UNKNOWN: u16 = 2;
const OUT_OF_RANGE: u16 = 11;

fn to_code(kind: ErrorKind) -> u16 {
    CODES.iter().find(|(known, ..)| *known == kind).map_or(UNKNOWN, |(_, code, _)| *code)
}

fn from_code(code: u16) -> ErrorKind {
    match CODES.iter().find(|(_, known, _)| *known == code) {
        Some((kind, ..)) => *kind,
        None if code == OUT_OF_RANGE => ErrorKind::InvalidArgument,
        None => ErrorKind::Unknown,
    }
}

/// The name of a code; `code 99` without one.
fn name(code: u16) -> Cow<'static, str> {
    match CODES.iter().find(|(_, known, _)| *known == code) {
        Some((.., name)) => (*name).into(),
        None if code == OUT_OF_RANGE => "OUT_OF_RANGE".into(),
        None => format!("code {code}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: &Error) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write_status(&mut headers, Err(error));
        headers
    }

    fn read(headers: &HeaderMap) -> Error {
        read_status(headers).unwrap().unwrap_err()
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "no such file")
                .with_hint("create it")
                .context("opening the disk");
            let back = read(&written(&error));
            assert_eq!(back.kind(), *kind);
            assert_eq!(back.report(), "opening the disk: no such file\nhint: create it");
        }
        let mut headers = HeaderMap::new();
        assert!(read_status(&headers).is_none());
        write_status(&mut headers, Ok(()));
        assert!(read_status(&headers).unwrap().is_ok());
        for (code, kind) in [("11", ErrorKind::InvalidArgument), ("99", ErrorKind::Unknown)] {
            headers.insert(STATUS, HeaderValue::from_static(code));
            assert_eq!(read(&headers).kind(), kind);
        }
    }

    #[test]
    fn an_error_without_a_text_names_its_code() {
        let mut headers = HeaderMap::new();
        for (code, message, expected) in [
            ("13", None, "the exporter gives no reason (INTERNAL)"),
            ("2", Some(""), "the exporter gives no reason (UNKNOWN)"),
            ("11", Some("%20%0A"), "the exporter gives no reason (OUT_OF_RANGE)"),
            ("99", None, "the exporter gives no reason (code 99)"),
            ("5", Some("%0Ahint: look"), "the exporter gives no reason (NOT_FOUND)\nhint: look"),
        ] {
            headers.clear();
            headers.insert(STATUS, HeaderValue::from_static(code));
            headers
                .extend(message.map(|message| (MESSAGE_NAME, HeaderValue::from_static(message))));
            assert_eq!(read(&headers).report(), expected);
        }
    }

    #[test]
    fn only_refusals_have_the_codes_that_clients_in_python_give_a_meaning() {
        for (kind, code) in [(ErrorKind::NotFound, "5"), (ErrorKind::FailedPrecondition, "9")] {
            let drivers = written(&Error::new(kind, "nothing was flashed").context("dumping"));
            assert_eq!(drivers[STATUS], "2");
            let back = read(&drivers);
            assert_eq!((back.kind(), back.is_refusal()), (kind, false));
            let refusal = written(&Error::new(kind, "no such method").refused().context("calling"));
            assert_eq!(refusal[STATUS], code);
            let back = read(&refusal);
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
                let headers = written(&error);
                let length = headers[MESSAGE].len();
                assert!(length <= MAX_ENCODED, "{length} bytes of {text:?}");
                assert!(length > MAX_ENCODED / 4, "{length} bytes of {text:?} are few");
                let report = read(&headers).report();
                assert!(report.contains('…'), "{text:?}");
                assert!(hint.len() > 100 || report.ends_with(hint), "the hint is whole");
            }
        }
        let short = "ü".repeat(100);
        assert_eq!(read(&written(&Error::internal(short.clone()))).report(), short);
    }
}
