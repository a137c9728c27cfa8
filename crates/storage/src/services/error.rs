//! Errors of OpenDAL.

use std::error::Error as _;

use jumpstarter_driver_core::{Error, ErrorKind};

/// The error, without the context that OpenDAL adds: it names URLs and headers.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn mapped(error: opendal_core::Error) -> Error {
    use opendal_core::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::Unsupported => ErrorKind::Unimplemented,
        Kind::ConfigInvalid
        | Kind::IsADirectory
        | Kind::NotADirectory
        | Kind::IsSameFile
        | Kind::RangeNotSatisfied => ErrorKind::InvalidArgument,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::PermissionDenied => ErrorKind::PermissionDenied,
        Kind::AlreadyExists => ErrorKind::AlreadyExists,
        Kind::RateLimited => ErrorKind::Unavailable,
        Kind::ConditionNotMatch | Kind::Conflict => ErrorKind::FailedPrecondition,
        _ => cause(&error).map_or(ErrorKind::Unavailable, Error::kind),
    };
    Error::new(kind, message(&error))
}

/// What it says, without that context.
pub(crate) fn message(error: &opendal_core::Error) -> String {
    match cause(error) {
        Some(cause) => cause.report(),
        None if error.message().is_empty() => error.kind().to_string(),
        None => plain(error.message()),
    }
}

/// What a service says: of `S3Error { code: "C", message: "M", … }` it is `M (C)`.
fn plain(message: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("{name}: \""))?;
        rest.split_once("\", ").map(|(text, _)| text)
    };
    match (field("{ code").filter(|code| !code.is_empty()), field("message")) {
        (Some(code), Some("")) => code.to_owned(),
        (Some(code), Some(text)) => format!("{text} ({code})"),
        _ => message.to_owned(),
    }
}

/// The error of ours that is behind one.
fn cause(error: &opendal_core::Error) -> Option<&Error> {
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(found) = source.downcast_ref::<Error>() {
            return Some(found);
        }
        next = source.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_plain() {
        let said = r#"S3Error { code: "NoSuchKey", message: "There is none.", resource: "", request_id: "" }"#;
        assert_eq!(plain(said), "There is none. (NoSuchKey)");
        let said = r#"S3Error { code: "SlowDown", message: "", resource: "", request_id: "" }"#;
        assert_eq!(plain(said), "SlowDown");
        assert_eq!(plain("region is missing"), "region is missing");
    }
}
