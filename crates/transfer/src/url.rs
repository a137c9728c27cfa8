//! URLs whose percent-encoding stays as it is: a signature covers every character.

use std::fmt;

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
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid_argument(format!("the URL of the image is not usable: {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("its scheme is neither http nor https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("it holds a user name; give an `authorization` header instead"));
        }
        let bracketed = authority.rfind(']').map_or(0, |at| at);
        let (host, port) = match authority[bracketed..].rfind(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(bracketed + colon);
                (host, port[1..].parse().map_err(|_| wrong("its port is not a number"))?)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(wrong("it has characters that must be percent-encoded"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { tls, host, port, target })
    }

    /// Host and port as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Where a `Location` of an answer from this URL leads.
    pub(crate) fn join(&self, location: &str) -> Result<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme_end = location.find("://").filter(|end| {
            location[..*end].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        if scheme_end.is_some_and(|end| end > 0) {
            return Self::parse(location);
        }
        let scheme = if self.tls { "https" } else { "http" };
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match location.as_bytes().first() {
            None => self.target.clone(),
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            Some(_) => relative(path, location),
        };
        Self::parse(&format!("{scheme}://{}{target}", self.authority()))
    }
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
        let url = Url::parse("HTTPS://Bucket.Example:8443/a%2fb/%C3%BC;x=1?sig=%2B%2f&e=#there").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("bucket.example", 8443));
        assert_eq!(url.target, "/a%2fb/%C3%BC;x=1?sig=%2B%2f&e=");
        assert_eq!(format!("{url} {url:?}").matches("sig").count(), 0);
        assert_eq!(Url::parse("http://[::1]:80?q").unwrap().authority(), "[::1]");
        assert_eq!(Url::parse("http://[::1]:80?q").unwrap().target, "/?q");
    }

    #[test]
    fn unusable_urls_are_refused() {
        for text in
            ["", "ftp://host/", "http://", "http://user:password@host/", "http://host:x/", "http://host/ a"]
        {
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
            assert_eq!(from.join(location).unwrap().to_string(), expected, "{location}");
        }
        assert_eq!(from.join("x?u=http://there/").unwrap().target, "/a/b/x?u=http://there/");
    }
}
