//! Addresses that may be sent secrets.

use std::net::IpAddr;

use http::Uri;
use jumpstarter_driver_core::{Error, Result};

/// Which addresses without TLS are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Only `https`.
    Never,
    /// `http`, too, on this machine.
    Loopback,
    /// `http` everywhere: the user asked for it.
    Anywhere,
}

impl Plain {
    /// What the endpoints may be that `issuer` names: a server with TLS names none without.
    pub(crate) fn of_endpoints(self, issuer: &str) -> Self {
        match self {
            Self::Loopback if issuer.starts_with("https:") => Self::Never,
            other => other,
        }
    }
}

/// Checks an address; `what` is what it is of, for errors.
///
/// # Errors
/// `InvalidArgument` for what is no URL, or has a user name or a fragment; `PermissionDenied` for
/// one without TLS.
pub(crate) fn check(what: &str, url: &str, plain: Plain) -> Result<()> {
    let shown = jumpstarter_text::truncated(url, 200);
    let shown = jumpstarter_text::line(&shown);
    let wrong = |why: &str| {
        Error::invalid_argument(format!("{what} `{shown}` {why}"))
            .with_hint("it is written as https://HOST/PATH")
    };
    // `Uri` drops a fragment.
    if url.contains('#') {
        return Err(wrong("has a fragment"));
    }
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("is no URL"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("has a user name"));
    }
    match scheme {
        "https" => Ok(()),
        "http" => match plain {
            Plain::Anywhere => Ok(()),
            Plain::Loopback if is_loopback(authority.host()) => Ok(()),
            _ => Err(Error::permission_denied(format!("{what} `{shown}` has no TLS")).with_hint(
                "everybody on the way can read what is sent there: use its https address, or \
                 --insecure-tls on a trusted network",
            )),
        },
        _ => Err(wrong("is neither https nor http")),
    }
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_need_tls_or_this_machine() {
        let is_ok = |url: &str, plain| check("the issuer", url, plain).is_ok();
        for (url, never, loopback, anywhere) in [
            ("https://a.example/x", true, true, true),
            ("http://127.0.0.1:1/", false, true, true),
            ("http://[::1]:1", false, true, true),
            ("http://LOCALHOST:1/x?y", false, true, true),
            ("http://a.example", false, false, true),
            ("http://localhost.a.example", false, false, true),
            ("http://127.0.0.1@a.example/", false, false, false),
            ("https://me:hush@a.example/", false, false, false),
            ("https://a.example/#x", false, false, false),
            ("ftp://a.example/", false, false, false),
            ("a.example", false, false, false),
            ("/x", false, false, false),
            ("https://a b/", false, false, false),
            ("", false, false, false),
        ] {
            let found = [Plain::Never, Plain::Loopback, Plain::Anywhere].map(|it| is_ok(url, it));
            assert_eq!(found, [never, loopback, anywhere], "{url}");
        }
        let error = check("the issuer", "http://a.example\u{1b}[2J", Plain::Never).unwrap_err();
        assert!(!error.report().contains('\u{1b}'), "{}", error.report());
        assert_eq!(Plain::Loopback.of_endpoints("https://a"), Plain::Never);
        assert_eq!(Plain::Loopback.of_endpoints("http://127.0.0.1"), Plain::Loopback);
    }
}
