//! Basic authentication (RFC 7617), also from the user information of a URL.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The value of an `Authorization` header.
pub(crate) fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", STANDARD.encode([user, b":", password].concat()))
}

/// The URL without its user information, and the header's value for that.
pub(crate) fn without_user(url: &str) -> (String, Option<String>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return whole() };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    (format!("{scheme}://{host}{target}"), Some(basic(&decoded(user), &decoded(password))))
}

/// Without percent-encoding.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, rest: &str, user: Option<&[u8]>) {
        let (left, found) = without_user(url);
        let expected = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        assert_eq!((left.as_str(), found), (rest, expected), "{url}");
    }

    #[test]
    fn users_in_urls_are_credentials() {
        check("http://a:b@host:1/x@y", "http://host:1/x@y", Some(b"a:b"));
        check("https://me%40lab:p%3Aq%zz@host", "https://host", Some(b"me@lab:p:q%zz"));
        check("http://me@host?q", "http://host?q", Some(b"me:"));
        check("http://host/a@b", "http://host/a@b", None);
        // Bytes that are no UTF-8 stay as they are.
        check("http://a:%ff%C3%BC@host", "http://host", Some(b"a:\xff\xc3\xbc"));
    }
}
