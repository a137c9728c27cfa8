//! URLs whose percent-encoding stays as it is: a signature covers every character. It is written
//! here because the crate `url` normalises them.

use std::fmt;
use std::net::Ipv6Addr;

use jumpstarter_driver_core::{Error, Result};

/// An `http` or `https` URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query as they were written; never empty.
    pub(crate) target: String,
}

impl fmt::Display for Url {
    /// Without the query, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|why| {
            Error::invalid_argument(format!("the URL of the image is not usable: {why}"))
        })
    }

    /// Reads a URL; an error is why it is not usable.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither http nor https"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it holds a user name; give an `authorization` header instead");
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(bracketed) => bracketed.ok_or("its host has a bracket that is not closed")?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_usable = match authority.starts_with('[') {
            true => {
                host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            }
            false => host.bytes().all(is_host),
        };
        if host.is_empty() {
            return Err("it has no host");
        }
        if !is_usable {
            return Err(
                "its host has characters that are none of a host; write names that are not ASCII as xn--…",
            );
        }
        let port = match port.strip_prefix(':') {
            None if !port.is_empty() => return Err("its port is not a number"),
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(digits) => {
                let digits =
                    Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                digits.and_then(|digits| digits.parse().ok()).ok_or("its port is not a number")?
            }
        };
        if target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err("it has characters that must be percent-encoded");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { tls, host: host.to_ascii_lowercase(), port, target })
    }

    /// Without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Host and port as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The same with the port, whatever that is.
    pub(crate) fn authority_with_port(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Where a `Location` of an answer from this URL leads, in any way that browsers follow.
    pub(crate) fn join(&self, location: &[u8]) -> Result<Self> {
        let location = &*escaped(location.trim_ascii());
        let location = location.split('#').next().unwrap_or_default();
        if let Some((scheme, rest)) =
            location.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
        {
            let is_http = ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
            return match rest.starts_with("//") && is_http {
                true => Self::parse(location),
                false if is_http => Err(Error::invalid_argument(format!(
                    "it leads to a URL that has no `//` after `{scheme}:`"
                ))),
                false => Err(Error::invalid_argument(format!(
                    "it leads to a URL of `{scheme}:`, which is neither http nor https"
                ))),
            };
        }
        let scheme = if self.tls { "https" } else { "http" };
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = self.path();
        let target = match location.as_bytes().first() {
            None => self.target.clone(),
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            Some(_) => relative(path, location),
        };
        Self::parse(&format!("{scheme}://{}{target}", self.authority()))
    }
}

/// Whether it is a scheme's name (RFC 3986).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Without the bytes that no request can carry: blanks, what is not ASCII, quotes and angle
/// brackets are percent-encoded. Everything else stays, percent-encoding and its case too, but for
/// backslashes before the query, which browsers take for slashes.
fn escaped(location: &[u8]) -> String {
    let mut text = String::with_capacity(location.len());
    let mut is_query = false;
    for byte in location {
        is_query |= *byte == b'?';
        match byte {
            b'\\' if !is_query => text.push('/'),
            ..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'`' => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

/// A relative path from the folder of `path`, with its dots resolved.
fn relative(path: &str, location: &str) -> String {
    let (location, query) = location.find('?').map_or((location, ""), |at| location.split_at(at));
    let folder = path.rfind('/').map_or("", |end| &path[..end]);
    let mut segments: Vec<&str> = folder.split('/').skip(1).collect();
    let last = location.rsplit('/').next().unwrap_or_default();
    for segment in location.split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let slash = if matches!(last, "." | "..") && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signature_covers_stays_as_it_is() {
        let url =
            Url::parse("HTTPS://Bucket.Example:8443/a%2fb/%C3%BC;x=1?sig=%2B%2f&e=#there").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("bucket.example", 8443));
        assert_eq!(url.target, "/a%2fb/%C3%BC;x=1?sig=%2B%2f&e=");
        assert_eq!(format!("{url} {url:?}").matches("sig").count(), 0);
        assert_eq!(Url::parse("http://[::1]:80?q").unwrap().authority(), "[::1]");
        assert_eq!(Url::parse("http://[::1]:80?q").unwrap().target, "/?q");
    }

    #[test]
    fn unusable_urls_are_refused() {
        for text in [
            "",
            "ftp://host/",
            "http://",
            "http://:80/",
            "http://user:password@host/",
            "http://host:x/",
            "http://host:+80/",
            "http://host:65536/",
            "http://host/ a",
            "http://ho st/",
            "http://h%6fst/",
            "http://b\u{fc}cher.example/",
            "http://host\r\nx: y/",
            "http://[::1/",
            "http://[::1]80/",
            "http://[localhost]/",
        ] {
            let error = Url::parse(text).unwrap_err().report();
            assert!(!error.contains("password"), "{error}");
        }
    }

    #[test]
    fn locations() {
        let from = Url::parse("http://host:99/a/b/c?q=1").unwrap();
        for (location, expected) in [
            ("https://other/x%2Fy?z", "https://other/x%2Fy"),
            ("//other/x", "http://other/x"),
            ("/x", "http://host:99/x"),
            ("x?u=http://there/", "http://host:99/a/b/x"),
            ("../x/./y", "http://host:99/a/x/y"),
            ("../../../..", "http://host:99/"),
            ("?z", "http://host:99/a/b/c"),
        ] {
            assert_eq!(from.join(location.as_bytes()).unwrap().to_string(), expected, "{location}");
        }
        assert_eq!(from.join(b"x?u=http://there/").unwrap().target, "/a/b/x?u=http://there/");
    }

    #[test]
    fn locations_of_other_schemes_are_no_paths() {
        let from = Url::parse("http://host/a/b").unwrap();
        for (location, expected) in [
            ("data:,x", "`data:`, which is neither http nor https"),
            ("ftp://host/x", "`ftp:`, which is neither http nor https"),
            ("FILE:/etc/passwd", "`FILE:`, which is neither http nor https"),
            ("http:127.0.0.1/x", "no `//` after `http:`"),
            ("https:/x", "no `//` after `https:`"),
        ] {
            let error = from.join(location.as_bytes()).unwrap_err().report();
            assert!(error.contains(expected), "{location}: {error}");
        }
        for path in ["./data:,x", "x?data:,x", "x/y:z", "1:x"] {
            assert_eq!(from.join(path.as_bytes()).unwrap().host, "host", "{path}");
        }
    }

    #[test]
    fn locations_that_browsers_mend() {
        let from = Url::parse("http://host/a/b").unwrap();
        for (location, target) in [
            ("/gr\u{fc}n.img".as_bytes(), "/gr%C3%BCn.img"),
            (b"/gr\xfcn.img", "/gr%FCn.img"),
            (b"/my image.img?name=a b&sig=%2b%2F", "/my%20image.img?name=a%20b&sig=%2b%2F"),
            (b"  /x ", "/x"),
            (b"/a%20b%zz", "/a%20b%zz"),
            (b"files\\os.img?a\\b", "/a/files/os.img?a\\b"),
            (b"/\"<x>`\"", "/%22%3Cx%3E%60%22"),
            (b"/x#a b", "/x"),
            (b"http://host:/x", "/x"),
        ] {
            let next = from.join(location).unwrap();
            assert_eq!((next.target.as_str(), next.port), (target, 80), "{location:?}");
        }
        let error = from.join("http://b\u{fc}cher.example/".as_bytes()).unwrap_err().report();
        assert!(error.contains("xn--"), "{error}");
    }
}
