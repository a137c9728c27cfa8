//! Sending an image with PUT.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderValue};
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::{Error, Result};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::answer::content_type;
use crate::exchange::{Body, exchange};
use crate::way::{MAX_REDIRECTS, Way, redirects};

/// A server that is asked whether it wants an upload has so long to redirect it; then the upload
/// begins.
const CONTINUE_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 30 } else { 1 });

/// What an upload's body is made of: its end has to be said, so that a broken-off dump is not taken
/// for a whole one.
pub(crate) enum Piece {
    Data(Bytes),
    End,
}

/// Sends the pieces, up to the one that says that it was the last; `length` bytes, where that is
/// given.
///
/// Redirects are followed that come before anything was sent: the server is asked first.
pub(crate) async fn put(
    mut way: Way,
    length: Option<u64>,
    pieces: mpsc::Receiver<Piece>,
) -> Result<()> {
    let pieces = Arc::new(Mutex::new(pieces));
    for _ in 0..=MAX_REDIRECTS {
        let begin = CancellationToken::new();
        let io = way.open().await?;
        let mut request =
            way.request(Method::PUT, upload_body(pieces.clone(), length, begin.clone()))?;
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let answer = exchange(io, request, begin.clone());
        tokio::pin!(answer);
        let response = tokio::select! {
            biased;
            response = &mut answer => response?,
            () = tokio::time::sleep(CONTINUE_LIMIT) => {
                // Many servers do not know the question: they wait for what is sent.
                begin.cancel();
                answer.await?
            }
        };
        match response.status() {
            StatusCode::OK if content_type(response.headers()) == "text/html" => {
                let message = format!(
                    "{} answers with a page (text/html), which does not say that it stored the image",
                    way.url
                );
                return Err(Error::failed_precondition(message).with_hint(
                    "open the URL in a browser: it may ask for a login; a store answers 201 or 204",
                ));
            }
            status if status.is_success() => {
                // With a length, the end mark was not asked for.
                return match pieces.lock().await.try_recv() {
                    Ok(Piece::Data(_)) => Err(Error::data_loss(format!(
                        "{} answers {status} before it had everything",
                        way.url
                    ))),
                    _ => Ok(()),
                };
            }
            status if redirects(status) && !begin.is_cancelled() => {
                way.follow(response.headers())?
            }
            status => return Err(way.refused(status)),
        }
    }
    Err(way.endless())
}

/// The body of an upload, which is not touched before `begin`.
fn upload_body(
    pieces: Arc<Mutex<mpsc::Receiver<Piece>>>,
    length: Option<u64>,
    begin: CancellationToken,
) -> Body {
    let frames = stream::unfold(Some(length), move |state| {
        let (pieces, begin) = (pieces.clone(), begin.clone());
        async move {
            let left = state?;
            begin.cancelled().await;
            let failed = |message: &str| Some((Err(io::Error::other(message.to_owned())), None));
            match (pieces.lock().await.recv().await, left) {
                (Some(Piece::Data(data)), None) => Some((Ok(Frame::data(data)), Some(None))),
                (Some(Piece::Data(data)), Some(left)) => {
                    match left.checked_sub(data.len() as u64) {
                        Some(left) => Some((Ok(Frame::data(data)), Some(Some(left)))),
                        None => failed(
                            "the image is larger than the content-length of the presigned request",
                        ),
                    }
                }
                (Some(Piece::End), None | Some(0)) => None,
                (Some(Piece::End), Some(_)) => {
                    failed("the image is smaller than the content-length of the presigned request")
                }
                (None, _) => failed("the dump broke off"),
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}
