//! Small requests to servers that the exporter's owner names, such as a switch with a web
//! interface.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::{Error, Result, ResultExt};

use crate::basic::{basic, without_user};
use crate::exchange::{Answer, whole};
use crate::get::{Asked, ask};
use crate::resume::body;
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, Way, late};

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
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    body: Bytes,
    pub(crate) settings: Arc<Settings>,
    follows: bool,
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
        let request = Self { method, url, headers, body, settings, follows: true };
        match user {
            Some(authorization) => request.header("authorization", &authorization),
            None => Ok(request),
        }
    }

    /// Adds a header; an `authorization` replaces the one before. Headers are not sent to another
    /// origin that a redirect leads to.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot be a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        if name.eq_ignore_ascii_case("authorization") {
            self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        Headers::new(&self.headers)?;
        Ok(self)
    }

    /// Adds a user name and a password.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn basic_authentication(self, user: &str, password: &str) -> Result<Self> {
        self.header("authorization", &basic(user.as_bytes(), password.as_bytes()))
    }

    /// Follows the rules of images: it is sent to no link-local address, and redirects lead into no
    /// private network from elsewhere.
    #[must_use]
    pub fn confined(mut self) -> Self {
        let settings = (*self.settings).clone();
        self.settings = Arc::new(Settings { trusts_its_urls: false, ..settings });
        self
    }

    /// Adds a body. A redirect that would send it to another origin fails the request.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Follows no redirect: it is the answer.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        self.follows = false;
        self
    }

    /// Trusts every certificate, also that of a proxy: a program in between can read and change
    /// everything.
    ///
    /// # Errors
    /// `Internal` if the library refuses the settings.
    #[cfg(feature = "tls")]
    pub fn trust_any(mut self) -> Result<Self> {
        let trust = Some(crate::trust_any::client_config()?);
        self.settings = Arc::new(Settings { trust, ..(*self.settings).clone() });
        Ok(self)
    }

    /// Trusts these certificate authorities, as PEM, in place of the system's.
    ///
    /// # Errors
    /// `InvalidArgument` where there is no certificate in it.
    #[cfg(feature = "tls")]
    pub fn trust(mut self, pem: &[u8]) -> Result<Self> {
        let trust = crate::Authorities::from_pem(pem)?.client_config()?;
        self.settings = Arc::new(Settings { trust: Some(trust), ..(*self.settings).clone() });
        Ok(self)
    }

    /// Sends it and returns the answer, whatever its status; all within `limit`.
    ///
    /// # Errors
    /// `Unavailable` if nothing answers, `DeadlineExceeded`, `ResourceExhausted` for an answer
    /// of more than 1 MiB.
    pub async fn send(&self, limit: Duration) -> Result<SmallAnswer> {
        let sent = tokio::time::timeout(limit, self.exchange(limit)).await;
        sent.unwrap_or_else(|_| Err(late(&self.url, "answer", limit)))
    }

    /// Sends it and returns the answer, whatever its status, when its head has arrived: within
    /// `limit`, and so does each piece of its body.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_streamed(&self, limit: Duration) -> Result<StreamedAnswer> {
        let sent = tokio::time::timeout(limit, self.ask(limit)).await;
        let (way, answer) = sent.unwrap_or_else(|_| Err(late(&self.url, "answer", limit)))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let url = way.url;
        let pieces = stream::unfold((body(answer), url), move |(mut pieces, url)| async move {
            let piece = match tokio::time::timeout(limit, pieces.next()).await {
                Ok(piece) => piece?,
                Err(_) => Err(late(&url, "send more", limit).into()),
            };
            Some((piece, (pieces, url)))
        });
        Ok(StreamedAnswer { status, headers, body: pieces.boxed() })
    }

    async fn exchange(&self, limit: Duration) -> Result<SmallAnswer> {
        let (way, answer) = self.ask(limit).await?;
        SmallAnswer::read(&way, answer).await
    }

    async fn ask(&self, limit: Duration) -> Result<(Way, Answer)> {
        let headers = Headers::new(&self.headers)?;
        let mut way = Way::new(self.url.clone(), headers, (*self.settings).clone());
        let (method, body) = (self.method.clone(), self.body.clone());
        let asked = Asked { method, body, headers: HeaderMap::new(), limit, follows: self.follows };
        let answer = ask(&mut way, asked).await?;
        Ok((way, answer))
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
        let body = whole(answer, MAX_ANSWER).await;
        let body = body.with_context(|| format!("reading the answer of {}", way.url))?;
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

/// The answer to a [`SmallRequest`] whose body is received while it is read.
pub struct StreamedAnswer {
    /// Never a redirect: it is followed, or fails the request.
    pub status: StatusCode,
    /// Those of the last answer, after redirects.
    pub headers: HeaderMap,
    /// Its body, in pieces.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for StreamedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamedAnswer({})", self.status)
    }
}

/// The beginning of an answer, for people.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = jumpstarter_text::truncated(text.trim(), SHOWN);
    jumpstarter_text::line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_urls_are_credentials() {
        let request = SmallRequest::new("post", "http://me:hush@host/on?key=hush").unwrap();
        assert_eq!(format!("{request:?}"), "SmallRequest(POST http://host/on)");
        let sent = |request: &SmallRequest| request.headers.clone();
        let header = |value: &str| ("authorization".to_owned(), value.to_owned());
        assert_eq!(sent(&request), [header("Basic bWU6aHVzaA==")]);
        // What is given later replaces it: two such headers are none.
        let request = request.basic_authentication("a", "b").unwrap();
        assert_eq!(sent(&request), [header("Basic YTpi")]);
        let request = request.header("Authorization", "Bearer c").unwrap();
        assert_eq!(request.headers[0].1, "Bearer c");
        assert_eq!(request.headers.len(), 1);
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
