//! Fetching an image with GET.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use crate::answer::{Image, image};
use crate::exchange::{Answer, exchange};
use crate::way::{MAX_REDIRECTS, Way, late, redirects};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The image at a URL; redirects are followed. With `is_checked` somebody compares its digest with
/// an expected one.
pub(crate) async fn get(mut way: Way, is_checked: bool) -> Result<Image> {
    let answer = ask(&mut way, Asked::image()).await?;
    match answer.status() {
        StatusCode::OK => image(way, answer, is_checked).await,
        status => Err(way.refused(status)),
    }
}

/// What a server is asked, besides the headers of its [`Way`].
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Each server has so long to answer.
    pub(crate) limit: Duration,
    /// A redirect is no answer.
    pub(crate) follows: bool,
}

impl Asked {
    /// A request for an image.
    pub(crate) fn image() -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method: Method::GET, headers, body, limit: ANSWER_LIMIT, follows: true }
    }
}

/// The answer to a request; redirects are followed.
///
/// # Errors
/// `PermissionDenied`: a redirect asks for the body to be sent to another origin.
pub(crate) async fn ask(way: &mut Way, mut asked: Asked) -> Result<Answer> {
    for _ in 0..=MAX_REDIRECTS {
        let answer = tokio::time::timeout(asked.limit, ask_once(way, &asked)).await;
        let answer = answer.unwrap_or_else(|_| Err(late(&way.url, "answer", asked.limit)))?;
        let status = answer.status();
        if !asked.follows || !redirects(status) {
            return Ok(answer);
        }
        // As browsers do, and the libraries that follow them.
        let keeps_method =
            matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps_method && asked.method != Method::HEAD {
            (asked.method, asked.body) = (Method::GET, Bytes::new());
        }
        let from = way.url.clone();
        way.follow(answer.headers())?;
        if !asked.body.is_empty() && !way.url.same_origin(&from) {
            let message = format!("{from} redirects the body of the request to {}", way.url);
            return Err(Error::permission_denied(message)
                .with_hint("a body may hold a password: if it may go there, use that URL itself"));
        }
    }
    Err(way.endless())
}

async fn ask_once(way: &mut Way, asked: &Asked) -> Result<Answer> {
    let io = way.open().await?;
    let body = Full::new(asked.body.clone()).map_err(|never| match never {}).boxed_unsync();
    let mut request = way.request(asked.method.clone(), body)?;
    request.headers_mut().extend(asked.headers.clone());
    // Such a request says also that its body is empty (RFC 9110, section 8.6); services sign it.
    let has_body = [Method::PATCH, Method::POST, Method::PUT].contains(&asked.method);
    if has_body || !asked.body.is_empty() {
        request.headers_mut().insert(CONTENT_LENGTH, asked.body.len().into());
    }
    exchange(io, request, CancellationToken::new()).await
}
