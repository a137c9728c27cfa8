//! The client at an in-memory connection: any answers of strangers, for tests and fuzz targets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::Result;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::answer::image;
use crate::exchange::{exchange, nothing};
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, Way, redirects};

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An image that arrived whole.
    Image(Vec<u8>),
    /// The URL to which it leads, without its query.
    Redirect(String),
}

/// What the client makes of `answer` to a request for `url`, which arrives in pieces and then ends.
/// Images are read up to
/// `limit` bytes.
///
/// # Errors
/// As a download's.
pub async fn answered(url: &str, answer: &[u8], piece: usize, limit: usize) -> Result<Outcome> {
    let headers = Headers::new(&[("x-vault-token".to_owned(), "s3cret".to_owned())])?;
    let mut way = Way::new(Url::parse(url)?, headers, Settings::default());
    let io =
        Memory { answer: answer.to_vec(), piece: piece.max(1), is_asked: false, waiting: None };
    let answer =
        exchange(io, way.request(Method::GET, nothing())?, CancellationToken::new()).await?;
    match answer.status() {
        StatusCode::OK => {
            let mut chunks = image(way, answer, false).await?.chunks;
            let mut read = Vec::new();
            while let Some(chunk) = chunks.next().await {
                read.extend_from_slice(&chunk?);
                if read.len() > limit {
                    break;
                }
            }
            Ok(Outcome::Image(read))
        }
        status if redirects(status) => {
            way.follow(answer.headers())?;
            let next = way.request(Method::GET, nothing())?;
            let is_elsewhere = !way.url.same_origin(&Url::parse(url)?);
            assert!(
                !is_elsewhere || !next.headers().contains_key("x-vault-token"),
                "a secret leaves its origin"
            );
            Ok(Outcome::Redirect(way.url.to_string()))
        }
        status => Err(way.refused(status)),
    }
}

/// A server that answers what it is asked, and takes whatever it is sent.
struct Memory {
    answer: Vec<u8>,
    piece: usize,
    is_asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_asked {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.piece.min(self.answer.len()).min(target.remaining());
        target.put_slice(&self.answer[..count]);
        self.answer.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_beginning_of_an_answer_is_an_image() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
        let head = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
        for answer in [
            [&head("content-length: 5\r\n")[..], b"hello"].concat(),
            [&head("transfer-encoding: chunked\r\n")[..], b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"]
                .concat(),
            [&head("content-length: 25\r\ncontent-encoding: gzip\r\n")[..], gzip].concat(),
            [&head("content-encoding: gzip\r\n")[..], gzip].concat(),
            [&head("")[..], gzip].concat(),
        ] {
            let whole = answered("http://a/os.img", &answer, 7, 1000).await.unwrap();
            assert!(
                whole == Outcome::Image(b"hello".to_vec())
                    || whole == Outcome::Image(gzip.to_vec())
            );
            for end in 0..answer.len() {
                let outcome = answered("http://a/os.img", &answer[..end], usize::MAX, 1000).await;
                assert!(outcome.is_err(), "{end} of {} bytes: {outcome:?}", answer.len());
            }
        }
    }
}
