//! Sending an image while it is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use jumpstarter_driver_core::image::{BoxWriter, ImageRequest};
use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_util::sync::PollSender;

use crate::download::way;
use crate::put::{Piece, put};
use crate::settings::Settings;

/// A server may think for so long about what it was sent.
const STORE_LIMIT: Duration = Duration::from_secs(300);
/// The largest piece of an upload.
const MAX_PIECE: usize = 256 * 1024;

/// An image that is sent while it is written; it is whole once the shutdown succeeds. Call it
/// inside a runtime.
///
/// A `content-length` among the request's headers says how large the image is: storage services
/// mostly want to know. A server that takes nothing for `stall_limit`, or does not answer for five
/// minutes once it has everything, is given up with `DeadlineExceeded`.
///
/// # Errors
/// As [`download`](crate::download())'s.
pub fn upload(request: ImageRequest, stall_limit: Duration) -> Result<BoxWriter> {
    upload_with(request, stall_limit, Settings::from_env()?)
}

pub(crate) fn upload_with(
    request: ImageRequest,
    stall_limit: Duration,
    settings: Settings,
) -> Result<BoxWriter> {
    let way = way(&request, settings)?;
    let length = content_length(&request)?;
    let (sender, receiver) = mpsc::channel(4);
    let name = way.url.to_string();
    let doing = format!("uploading to {name}");
    let sending = tokio::spawn(async move { put(way, length, receiver).await.context(doing) });
    let (sender, sending) = (PollSender::new(sender), Aborting(sending));
    Ok(Box::pin(Upload { sender, sending, ended: false, name, stall_limit, patience: None }))
}

fn content_length(request: &ImageRequest) -> Result<Option<u64>> {
    let mut given =
        request.headers().iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = given.next().map(|(_, length)| length.trim().parse());
    length.transpose().map_err(|_| {
        Error::invalid_argument("the content-length of the presigned request is not a number")
    })
}

/// A task that ends with its handle.
struct Aborting(JoinHandle<Result<()>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Upload {
    sender: PollSender<Piece>,
    sending: Aborting,
    ended: bool,
    /// The server's, for messages.
    name: String,
    stall_limit: Duration,
    /// The end of the wait that is under way.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// Waits no longer than `limit` for what is pending.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        limit: Duration,
        polled: Poll<io::Result<T>>,
        what: &str,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.patience = None;
            return polled;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(patience.as_mut().poll(cx));
        self.sending.0.abort();
        let message =
            format!("uploading to {}: the server {what} for {} s", self.name, limit.as_secs());
        Poll::Ready(Err(Error::deadline_exceeded(message).into()))
    }

    /// Why the server takes nothing more.
    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = ready!(self.sending.0.poll_unpin(cx));
        let outcome =
            outcome.unwrap_or_else(|error| Err(Error::internal("uploading").with_source(error)));
        Poll::Ready(outcome.map_err(io::Error::from))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = match self.sender.poll_reserve(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => {
                let answered = |()| {
                    Err(Error::data_loss("the server answered before it had everything").into())
                };
                self.poll_outcome(cx).map(|outcome| outcome.and_then(answered))
            }
        };
        self.in_time(cx, self.stall_limit, room, "took nothing")
    }
}

impl AsyncWrite for Upload {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        let length = data.len().min(MAX_PIECE);
        let piece = Piece::Data(Bytes::copy_from_slice(&data[..length]));
        self.sender.send_item(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(self.poll_room(cx))?;
            self.sender
                .send_item(Piece::End)
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.ended = true;
        }
        let outcome = self.poll_outcome(cx);
        self.in_time(cx, STORE_LIMIT, outcome, "did not answer")
    }
}
