//! Small requests to servers that the exporter's owner names, such as a switch with a web
//! interface.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use crate::exchange::{Answer, broken, exchange};
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, MAX_REDIRECTS, Way, late, redirects};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// How much of an answer an error shows.
const SHOWN: usize = 200;

/// A small request: it can be sent repeatedly, each time on a new connection.
///
/// Unlike that of an image, its URL may lead anywhere: the owner of the exporter wrote it.
/// Redirects are followed, and the proxies of the environment are used, as for images.
#[derive(Clone)]
pub struct SmallRequest {
    method: Method,
    url: Url,
    headers: Vec<(String, String)>,
    body: Bytes,
    settings: Arc<Settings>,
}

/// Without headers and body, which may hold secrets.
impl fmt::Debug for SmallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmallRequest({} {})", self.method, self.url)
    }
}

impl SmallRequest {
    /// A request without a body. A user name and a password in the URL are sent as HTTP's basic
    /// authentication.
    ///
    /// # Errors
    /// `InvalidArgument` for a method or a URL that cannot be used; no part of the URL is quoted.
    pub fn new(method: &str, url: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid_argument(why.to_owned());
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
            .map_err(|_| wrong("the method is none of HTTP"))?;
        let (url, user) = without_user(url);
        let url = Url::read(&url).map_err(|why| wrong(&format!("the URL is not usable: {why}")))?;
        let settings = Settings { trusts_its_urls: true, ..Settings::from_env()? };
        let (headers, body, settings) = (Vec::new(), Bytes::new(), Arc::new(settings));
        let request = Self { method, url, headers, body, settings };
        match user {
            Some((user, password)) => request.basic_authentication(&user, &password),
            None => Ok(request),
        }
    }

    /// Adds a header. Headers are not sent to another origin that a redirect leads to.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot be a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        self.headers.push((name.to_owned(), value.to_owned()));
        Headers::new(&self.headers)?;
        Ok(self)
    }

    /// Adds a user name and a password.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn basic_authentication(self, user: &str, password: &str) -> Result<Self> {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.header("authorization", &format!("Basic {credentials}"))
    }

    /// Adds a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Trusts these certificate authorities, as PEM, in place of the system's.
    ///
    /// # Errors
    /// `InvalidArgument` where there is no certificate in it.
    #[cfg(feature = "tls")]
    pub fn trust(mut self, pem: &[u8]) -> Result<Self> {
        let trust = crate::tls::trusting(crate::tls::authorities(pem)?)?;
        self.settings = Arc::new(Settings { trust: Some(trust), ..(*self.settings).clone() });
        Ok(self)
    }

    /// Sends it and returns the answer, whatever its status; all within `limit`.
    ///
    /// # Errors
    /// `Unavailable` if nothing answers, `DeadlineExceeded`, `ResourceExhausted` for an answer
    /// of more than 1 MiB.
    pub async fn send(&self, limit: Duration) -> Result<SmallAnswer> {
        let sent = tokio::time::timeout(limit, self.exchange()).await;
        sent.unwrap_or_else(|_| Err(late(&self.url, "answer", limit)))
    }

    async fn exchange(&self) -> Result<SmallAnswer> {
        let headers = Headers::new(&self.headers)?;
        let mut way = Way::new(self.url.clone(), headers, (*self.settings).clone());
        let (mut method, mut body) = (self.method.clone(), self.body.clone());
        for _ in 0..=MAX_REDIRECTS {
            let io = way.open().await?;
            let full = Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
            let mut request = way.request(method.clone(), full)?;
            if !body.is_empty() || method == Method::POST {
                request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
            }
            let answer = exchange(io, request, CancellationToken::new()).await?;
            let status = answer.status();
            if !redirects(status) {
                return SmallAnswer::read(&way, answer).await;
            }
            way.follow(answer.headers())?;
            // As browsers do, and the libraries that follow them.
            let keeps_method =
                matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if !keeps_method && method != Method::HEAD {
                (method, body) = (Method::GET, Bytes::new());
            }
        }
        Err(way.endless())
    }
}

/// The answer to a [`SmallRequest`].
#[derive(Debug)]
pub struct SmallAnswer {
    status: StatusCode,
    /// What it says.
    pub body: Bytes,
    /// What its status means, if it is no success.
    refusal: Error,
}

impl SmallAnswer {
    async fn read(way: &Way, answer: Answer) -> Result<Self> {
        let status = answer.status();
        let (mut incoming, _driving) = answer.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > MAX_ANSWER {
                let message = format!("the answer of {} has more than 1 MiB", way.url);
                return Err(Error::resource_exhausted(message));
            }
        }
        let refusal = match shown(&body) {
            text if text.is_empty() => way.refused(status),
            text => way.refused(status).with_hint(format!("it says: {text}")),
        };
        Ok(Self { status, body: body.into(), refusal })
    }

    /// Its status, such as 200.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether the status is one of success (2xx).
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The error that its status is, with the beginning of what it says.
    pub fn into_error(self) -> Error {
        self.refusal
    }
}

/// The beginning of an answer, for people.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = jumpstarter_text::truncated(text.trim(), SHOWN);
    jumpstarter_text::line(&text).into_owned()
}

/// The URL without its user name and password, and these.
fn without_user(url: &str) -> (String, Option<(String, String)>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return whole() };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let user = (decoded(user), decoded(password));
    (format!("{scheme}://{host}{target}"), Some(user))
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|_| *first == b'%') {
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
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_urls_are_credentials() {
        let check = |url: &str, rest: &str, user: Option<(&str, &str)>| {
            let (left, found) = without_user(url);
            let found = found.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
            assert_eq!((left.as_str(), found), (rest, user), "{url}");
        };
        check("http://a:b@host:1/x@y", "http://host:1/x@y", Some(("a", "b")));
        check("https://me%40lab:p%3Aq%zz@host", "https://host", Some(("me@lab", "p:q%zz")));
        check("http://host/a@b", "http://host/a@b", None);
        let request = SmallRequest::new("post", "http://me:hush@host/on?key=hush").unwrap();
        assert_eq!(format!("{request:?}"), "SmallRequest(POST http://host/on)");
        assert_eq!(
            request.headers,
            [("authorization".to_owned(), "Basic bWU6aHVzaA==".to_owned())]
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (method, url, expected) in [
            ("GO ON", "http://host/", "the method is none of HTTP"),
            ("GET", "host/on", "the URL is not usable: it has no scheme"),
            ("GET", "http://ho st/", "the URL is not usable: its host has characters"),
        ] {
            let error = SmallRequest::new(method, url).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let request = SmallRequest::new("GET", "http://host/").unwrap();
        assert!(request.header("a b", "c").is_err());
    }
}
