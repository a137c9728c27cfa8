//! HTTP for OpenDAL, by the client that fetches images: one client, one set of rules.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use jumpstarter_driver_core::{Error, ErrorKind as ours, Result};
use jumpstarter_transfer::{SmallRequest, StreamedAnswer};
use opendal_core::{Buffer, ErrorKind, HttpBody, HttpTransport};

/// A service that sends nothing for so long is given up.
const LIMIT: Duration = Duration::from_secs(120);

/// Sends each request on a new connection.
#[derive(Debug)]
pub(crate) struct Transport;

impl HttpTransport for Transport {
    async fn fetch(
        &self,
        request: http::Request<Buffer>,
    ) -> opendal_core::Result<http::Response<HttpBody>> {
        let is_head = request.method() == http::Method::HEAD;
        let StreamedAnswer { status, headers, body } = send(request).await.map_err(failed)?;
        let length = headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = HttpBody::new(Pieces(Mutex::new(body)), length.filter(|_| !is_head));
        let mut answer = http::Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

async fn send(request: http::Request<Buffer>) -> Result<StreamedAnswer> {
    let (parts, body) = request.into_parts();
    let mut request = SmallRequest::new(parts.method.as_str(), &parts.uri.to_string())?;
    for (name, value) in &parts.headers {
        let value = value.to_str();
        let value = value.map_err(|_| Error::invalid_argument("a header is no text"))?;
        request = request.header(name.as_str(), value)?;
    }
    request.body(body.to_bytes()).send_streamed(LIMIT).await
}

/// A server that is away, and a connection that broke, may be there the next time.
fn failed(error: Error) -> opendal_core::Error {
    let is_passing = matches!(error.kind(), ours::Unavailable | ours::DataLoss);
    let failed = opendal_core::Error::new(ErrorKind::Unexpected, "sending a request");
    let failed = failed.set_source(error);
    if is_passing { failed.set_temporary() } else { failed }
}

/// OpenDAL wants what threads can share.
struct Pieces(Mutex<BoxStream<'static, io::Result<Bytes>>>);

impl Stream for Pieces {
    type Item = opendal_core::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pieces = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = pieces.as_mut().poll_next(cx);
        next.map(|piece| piece.map(|piece| piece.map(Buffer::from).map_err(|e| failed(e.into()))))
    }
}
