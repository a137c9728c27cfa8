//! The answers of a controller that have to be recognised by their texts: many of its errors are
//! of the kind `Unknown`.

use jumpstarter_driver_core::{Error, ErrorKind};

/// What a controller's error means to who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The token has expired.
    Expired,
    /// The token, or who it is of, may not do this: another call will not succeed either.
    Denied,
    /// The exporter of the lease is not ready yet.
    NotReady,
    /// What the call is about does not exist.
    Missing,
}

impl Refusal {
    /// Recognises an error; `None` for one that another attempt may not meet.
    pub fn of(error: &Error) -> Option<Self> {
        let text = format!("{error:#}");
        let has = |part: &str| text.contains(part);
        match error.kind() {
            _ if has("token is expired") => Some(Self::Expired),
            // The controller has just started.
            _ if has("authenticator not initialized") => None,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Some(Self::Denied),
            ErrorKind::FailedPrecondition if has("not ready") => Some(Self::NotReady),
            ErrorKind::NotFound => Some(Self::Missing),
            ErrorKind::Unknown if has("not found") => Some(Self::Missing),
            ErrorKind::Unknown
                if has("permission denied") || has("failed to authenticate") || has("oidc: ") =>
            {
                Some(Self::Denied)
            }
            ErrorKind::InvalidArgument
                if has("authorization header")
                    || has("metadata")
                    || has("object kind mismatch")
                    || has("resource name") =>
            {
                Some(Self::Denied)
            }
            _ => None,
        }
    }

    /// Whether it is about the caller's token.
    pub fn is_of_the_token(self) -> bool {
        matches!(self, Self::Expired | Self::Denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_recognised() {
        use ErrorKind::{
            FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated, Unavailable,
            Unknown,
        };
        for (kind, text, expected) in [
            (Unknown, "oidc: verify token: oidc: token is expired (…)", Some(Refusal::Expired)),
            (Unknown, "oidc: authenticator not initialized", None),
            (Unknown, "failed to authenticate token", Some(Refusal::Denied)),
            (Unknown, "permission denied", Some(Refusal::Denied)),
            (PermissionDenied, "permission denied for exporter lab/x", Some(Refusal::Denied)),
            (Unauthenticated, "missing authorization header", Some(Refusal::Denied)),
            (InvalidArgument, "object kind mismatch", Some(Refusal::Denied)),
            (
                FailedPrecondition,
                "exporter is not ready (status: Available)",
                Some(Refusal::NotReady),
            ),
            (FailedPrecondition, "exporter is offline", None),
            (Unknown, "leases.jumpstarter.dev \"x\" not found", Some(Refusal::Missing)),
            (Unavailable, "the connection was lost", None),
            (Unknown, "watch channel closed", None),
        ] {
            assert_eq!(Refusal::of(&Error::new(kind, text)), expected, "{text}");
        }
    }
}
