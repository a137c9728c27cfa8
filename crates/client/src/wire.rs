//! The answers to a call, and the frames that are sent on a byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use jumpstarter_driver_core::Framing;
use jumpstarter_protocol::v1::FrameType;
use jumpstarter_protocol::wire::{Encoded, Incoming, MessageEncoding, Outgoing};
use prost::Message;
use tonic::{Code, Status};

/// The largest message that is accepted.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;
/// The most bytes that one frame carries; datagrams are never split.
pub(crate) const MAX_FRAME: usize = 256 * 1024;

/// Tells the status of an answer that cannot be read from one that the exporter has sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer cannot be read")
    }
}

impl std::error::Error for Unreadable {}

/// The status of what this side found wrong with an answer; those of the connection have their own
/// source.
pub(crate) fn unreadable(status: Status) -> Status {
    if std::error::Error::source(&status).is_some() {
        return status;
    }
    // The decoder names each of the levels that it went down.
    let parts: Vec<&str> = status.message().split(": ").collect();
    let message = match parts.as_slice() {
        [first, second, .., last] if parts.len() > 6 => format!("{first}: {second}: …: {last}"),
        _ => status.message().to_owned(),
    };
    let mut status = Status::new(status.code(), message);
    status.set_source(Arc::new(Unreadable));
    status
}

/// The messages of an answer. Dropping it before its end cancels the call on the exporter.
pub(crate) struct Messages<T> {
    /// The initial metadata.
    pub(crate) headers: HeaderMap,
    /// None after the end.
    incoming: Option<Incoming<T>>,
    /// The body has ended: its status comes.
    at_trailers: bool,
}

impl<T: Message + Default> Messages<T> {
    /// No message may be longer than that.
    ///
    /// # Errors
    /// The status of a call that failed at once, and what stands for an answer that is not gRPC.
    pub(crate) fn new(
        response: Response<RecvStream>,
        max_message_bytes: usize,
    ) -> Result<Self, Status> {
        let (head, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if head.status != StatusCode::OK
            || !head.headers.get(http::header::CONTENT_TYPE).is_some_and(is_grpc)
        {
            return Err(Status::unimplemented(format!(
                "it answers HTTP {} instead of gRPC",
                head.status
            )));
        }
        let incoming =
            Some(Incoming::new(body, MessageEncoding::of(&head.headers)?, max_message_bytes));
        Ok(Self { headers: head.headers, incoming, at_trailers: false })
    }
}

impl<T: Message + Default> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        if !this.at_trailers {
            match ready!(incoming.poll_message(cx)) {
                Some(Ok(message)) => return Poll::Ready(Some(Ok(message))),
                Some(Err(status)) => {
                    this.incoming = None;
                    return Poll::Ready(Some(Err(unreadable(status))));
                }
                None => this.at_trailers = true,
            }
        }
        let trailers = ready!(incoming.poll_trailers(cx));
        this.incoming = None;
        let status = match trailers {
            Err(status) => status,
            Ok(trailers) => trailers
                .as_ref()
                .or(Some(&this.headers))
                .and_then(Status::from_header_map)
                .unwrap_or_else(|| unreadable(Status::internal("it ended without a status"))),
        };
        Poll::Ready((status.code() != Code::Ok).then_some(Err(status)))
    }
}

/// The sending direction of a byte stream, frame by frame. Dropping it ends the direction, or
/// breaks the stream off where something was not sent.
pub(crate) struct Frames {
    outgoing: Outgoing,
    framing: Framing,
    finished: bool,
    /// Whether an end without an end mark must not look like one.
    whole: bool,
}

impl Frames {
    pub(crate) fn new(stream: SendStream<Bytes>, framing: Framing) -> Self {
        Self { outgoing: Outgoing::new(stream), framing, finished: false, whole: false }
    }

    /// As [`new`](Self::new), for what is worthless unless it is complete: dropping it breaks the
    /// stream off.
    pub(crate) fn whole_or_nothing(stream: SendStream<Bytes>) -> Self {
        let mut frames = Self::new(stream, Framing::Bytes);
        frames.whole = true;
        frames
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_drained(cx).map_err(broken)
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.whole && !self.finished || !self.outgoing.is_drained() {
            self.outgoing.reset();
        } else if !self.finished {
            // It fails only where there is nothing left to end.
            drop(self.outgoing.end());
        }
    }
}

impl Sink<Bytes> for Frames {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drained(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, mut payload: Bytes) -> io::Result<()> {
        match self.framing {
            Framing::Datagrams => self.outgoing.push(Encoded::frame(FrameType::Data, payload)),
            Framing::Bytes => {
                while !payload.is_empty() {
                    let piece = payload.split_to(payload.len().min(MAX_FRAME));
                    self.outgoing.push(Encoded::frame(FrameType::Data, piece));
                }
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drained(cx)
    }

    /// The end mark, and the end of the direction.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.outgoing.push(Encoded::frame(FrameType::Goaway, Bytes::new()));
        }
        if self.outgoing.is_drained() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drained(cx))?;
        Poll::Ready(self.outgoing.end().map_err(broken))
    }
}
