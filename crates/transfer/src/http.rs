//! Images that are fetched from, or sent to, URLs over HTTP or HTTPS.
//!
//! URLs and headers are secrets here: errors and logs show the URL without its query, and no header.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jumpstarter_driver_core::image::{BoxWriter, ImageRequest};
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::PollSender;

use crate::client::{self, Headers};
use crate::url::Url;

/// The largest piece of an upload.
const MAX_PIECE: usize = 256 * 1024;

fn prepare(request: &ImageRequest) -> Result<(Url, Headers)> {
    Ok((Url::parse(request.url())?, Headers::new(request.headers())?))
}

/// An image that is fetched when it is read; a server that sends nothing for `stall_limit` is given up.
///
/// # Errors
/// `InvalidArgument` for a URL or header that cannot be used; what the server does wrong shows in the reading.
pub fn download(request: ImageRequest, stall_limit: Duration) -> Result<ImageSource> {
    let (url, headers) = prepare(&request)?;
    let name = url.to_string();
    let doing = format!("downloading {name}");
    let stalled = format!("{doing}: nothing came for {} s", stall_limit.as_secs());
    let fetched = async move { client::get(url, headers).await.context(doing).map_err(io::Error::from) };
    let chunks = stream::once(fetched).try_flatten().boxed();
    let timed = stream::unfold(chunks, move |mut chunks| {
        let stalled = stalled.clone();
        async move {
            let item = match tokio::time::timeout(stall_limit, chunks.next()).await {
                Ok(item) => item?,
                Err(_) => Err(Error::deadline_exceeded(stalled).into()),
            };
            Some((item, chunks))
        }
    });
    Ok(ImageSource::stream(timed, None).with_name(name))
}

/// An image that is sent while it is written; it is whole once the shutdown succeeds. Call it inside a runtime.
///
/// # Errors
/// As [`download`]'s.
pub fn upload(request: ImageRequest) -> Result<BoxWriter> {
    let (url, headers) = prepare(&request)?;
    let (sender, receiver) = mpsc::channel(4);
    let doing = format!("uploading to {url}");
    let sending = tokio::spawn(async move { client::put(url, headers, receiver).await.context(doing) });
    Ok(Box::pin(Upload { sender: PollSender::new(sender), sending: Aborting(sending), ended: false }))
}

/// What an upload's body is made of: its end has to be said, so that a broken-off dump is not taken for a whole one.
pub(crate) enum Piece {
    Data(Bytes),
    End,
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
}

impl Upload {
    /// Why the server takes nothing more.
    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = ready!(self.sending.0.poll_unpin(cx));
        let outcome = outcome.unwrap_or_else(|error| Err(Error::internal("uploading").with_source(error)));
        Poll::Ready(outcome.map_err(io::Error::from))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.sender.poll_reserve(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => {
                ready!(self.poll_outcome(cx))?;
                Poll::Ready(Err(Error::data_loss("the server answered before it had everything").into()))
            }
        }
    }
}

impl AsyncWrite for Upload {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
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
            self.sender.send_item(Piece::End).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.ended = true;
        }
        self.poll_outcome(cx)
    }
}
