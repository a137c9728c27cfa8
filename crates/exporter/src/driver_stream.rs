//! The stream of a driver's channel: two independent pumps.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{FutureExt, SinkExt, StreamExt};
use jumpstarter_driver_core::{Channel, ChannelReader, ChannelWriter, Error, Result, ResultExt};
use jumpstarter_protocol::v1::{FrameType, StreamRequest};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Session;
use crate::layers::{panicked, shutting_down};
use crate::resource::Incoming;

/// How long the remaining data of a client that left may take to reach the driver. A client that
/// closes right after its last byte loses none, even for a slow serial port. A driver that accepts
/// nothing is dropped after it.
const LAST_LIMIT: Duration = Duration::from_secs(5);

/// A frame for the client.
#[derive(Debug)]
pub(crate) enum Frame {
    Data(Bytes),
    /// This direction has ended.
    End,
}

/// What a stream carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes that come and go.
    Talk,
    /// What must arrive: the end says that the driver has taken everything, and an error that it
    /// has not.
    All,
    /// An image, which is worth nothing without its end mark.
    Image,
}

/// From the driver to the client, as frames. The pump to the driver is a separate task: a client
/// that does not read can still send, and its last data reaches the driver after it left.
pub(crate) fn frames(
    session: &Session,
    connecting: impl Future<Output = Result<Channel>> + Send + 'static,
    incoming: Incoming,
    content: Content,
) -> Receiving {
    let (connected, reader) = oneshot::channel();
    let (left, shutdown) = (CancellationToken::new(), session.0.shutdown.clone());
    let client_left = left.clone();
    let sending = tokio::spawn(async move {
        let too_late = async {
            client_left.cancelled().await;
            tokio::time::sleep(LAST_LIMIT).await;
        };
        tokio::select! {
            sent = send(connecting, connected, incoming, content, &client_left) => sent,
            () = too_late => Ok(()),
            () = shutdown.cancelled() => Err(shutting_down()),
        }
    });
    let (reader, sending) = (Reader::Connecting(reader), Some(sending));
    let all = content == Content::All;
    Receiving { reader, sending, all, _left: left.drop_guard() }
}

/// Connects, hands over the driver's direction, and pumps the other one.
async fn send(
    connecting: impl Future<Output = Result<Channel>>,
    connected: oneshot::Sender<ChannelReader>,
    incoming: Incoming,
    content: Content,
    client_left: &CancellationToken,
) -> Result<()> {
    let mut incoming = incoming.peekable();
    tokio::pin!(connecting);
    let channel = tokio::select! {
        biased;
        channel = &mut connecting => channel?,
        () = client_left.cancelled() => {
            // Data that was already sent still reaches the driver.
            match Pin::new(&mut incoming).peek().now_or_never() {
                Some(Some(Ok(frame))) if frame.frame_type() == FrameType::Data => connecting.await?,
                _ => return Ok(()),
            }
        }
    };
    let (reader, writer) = channel.split();
    // Without a client nothing is read.
    drop(connected.send(reader));
    to_driver(incoming, writer, content).await
}

/// The driver's direction.
enum Reader {
    Connecting(oneshot::Receiver<ChannelReader>),
    Open(ChannelReader),
    /// The driver has ended, and the end mark is not sent yet.
    Silent,
    Ended,
}

/// From the driver to the client.
pub(crate) struct Receiving {
    reader: Reader,
    /// The task of the other direction, until its result is known.
    sending: Option<JoinHandle<Result<()>>>,
    /// The end means that the driver has accepted everything.
    all: bool,
    _left: DropGuard,
}

impl Receiving {
    /// Ends the driver's direction.
    fn end(&mut self) -> Poll<Option<Result<Frame>>> {
        self.reader = Reader::Ended;
        Poll::Ready(Some(Ok(Frame::End)))
    }
}

impl Stream for Receiving {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(sending) = &mut this.sending
            && let Poll::Ready(sent) = sending.poll_unpin(cx)
        {
            this.sending = None;
            sent.unwrap_or_else(|failed| match failed.try_into_panic() {
                Ok(panic) => Err(panicked(panic.as_ref())),
                Err(_) => Err(shutting_down()),
            })?;
            if this.all && !matches!(this.reader, Reader::Ended) {
                return this.end();
            }
        }
        if let Reader::Connecting(connected) = &mut this.reader
            && let Poll::Ready(connected) = connected.poll_unpin(cx)
        {
            // If connecting failed, the other direction has the reason.
            this.reader = connected.map_or(Reader::Silent, Reader::Open);
        }
        if let Reader::Open(reader) = &mut this.reader
            && let Poll::Ready(frame) = reader.poll_next_unpin(cx)
        {
            let doing = "receiving from the driver's connection";
            return match frame.transpose().context(doing)? {
                Some(payload) => Poll::Ready(Some(Ok(Frame::Data(payload)))),
                // The end of sending is still to come.
                None if this.all && this.sending.is_some() => {
                    this.reader = Reader::Silent;
                    Poll::Pending
                }
                None => this.end(),
            };
        }
        match (&this.reader, &this.sending) {
            (Reader::Ended, None) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

/// Forwards the client's frames until its direction ends. If the driver stops reading, only this
/// direction ends, unless `all` of it must arrive.
///
/// The writer gets all frames that have arrived before it is flushed: a slow one may merge them.
async fn to_driver(
    mut incoming: impl Stream<Item = Result<StreamRequest>> + Unpin,
    mut writer: ChannelWriter,
    content: Content,
) -> Result<()> {
    let all = content == Content::All;
    let mut is_marked = false;
    let refused = |error: Error| match all {
        true => Err(error.context("passing on what was sent")),
        false => {
            tracing::debug!(error = %error.report(), "the driver's connection takes nothing more");
            Ok(())
        }
    };
    loop {
        let failed = match next_or_refused(&mut incoming, &mut writer).await {
            Err(error) => return refused(error.into()),
            Ok(None) => break,
            Ok(Some(Err(error))) => error.context("receiving from the client"),
            Ok(Some(Ok(frame))) => match frame.frame_type() {
                FrameType::Data => match writer.feed(frame.payload).await {
                    Ok(()) => continue,
                    Err(error) => return refused(error.into()),
                },
                FrameType::Goaway => {
                    is_marked = true;
                    break;
                }
                FrameType::RstStream => Error::aborted("the client reset the stream"),
                FrameType::Ping => continue,
            },
        };
        // What came before still reaches the driver, if it takes it.
        drop(writer.flush().await);
        return Err(failed);
    }
    if content == Content::Image && !is_marked {
        return Ok(());
    }
    if let Err(error) = writer.finish().await {
        if all {
            return Err(error);
        }
        tracing::debug!(error = %error.report(), "the driver's connection broke before its end");
    }
    Ok(())
}

/// The next frame, and meanwhile the writer is flushed; the error is the writer's.
async fn next_or_refused<T: Stream + Unpin>(
    incoming: &mut T,
    writer: &mut ChannelWriter,
) -> io::Result<Option<T::Item>> {
    let mut is_flushed = false;
    poll_fn(|cx| {
        if let Poll::Ready(frame) = incoming.poll_next_unpin(cx) {
            return Poll::Ready(Ok(frame));
        }
        is_flushed = is_flushed || writer.poll_flush_unpin(cx)?.is_ready();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_came_before_a_failure_reaches_a_slow_driver() {
        let frame = |kind: FrameType, payload: &'static str| StreamRequest {
            payload: payload.into(),
            frame_type: kind.into(),
        };
        for last in [Err(Error::unavailable("gone")), Ok(frame(FrameType::RstStream, ""))] {
            let (near, mut far) = tokio::io::duplex(8);
            let incoming =
                stream::iter([Ok(frame(FrameType::Data, "more than there is room")), last]);
            let sending = to_driver(incoming, Channel::from_io(near).split().1, Content::Talk);
            let mut received = String::new();
            let (sent, read) = tokio::join!(sending, far.read_to_string(&mut received));
            sent.unwrap_err();
            read.unwrap();
            assert_eq!(received, "more than there is room");
        }
    }
}
