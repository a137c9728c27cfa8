//! gRPC's framing on HTTP/2: messages that arrive, and frames that are sent on a byte stream.
//!
//! Why not tonic's client: an image that is broken off must end with a reset, not with an end that looks like success,
//! and payloads go through without copies.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use jumpstarter_driver_core::Framing;
use jumpstarter_protocol::v1::FrameType;
use prost::Message;
use tonic::{Code, Status};

/// Before each message: whether it is compressed (never), and its length.
const PREFIX: usize = 5;
/// The largest message that is accepted.
const MAX_MESSAGE: usize = 32 << 20;
/// The most bytes that one frame carries; datagrams are never split.
pub(crate) const MAX_FRAME: usize = 256 * 1024;

/// What a failure of the connection, or of one call on it, is as a status. Its source tells it from a status that the
/// exporter has sent.
pub(crate) fn transport(error: h2::Error) -> Status {
    Status::from_error(Box::new(error))
}

/// A message as it is sent.
pub(crate) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    buffer.put_u8(0);
    buffer
        .put_u32(u32::try_from(length).map_err(|_| Status::invalid_argument("the arguments are too long"))?);
    message.encode(&mut buffer).map_err(|_| Status::internal("a buffer was too small"))?;
    Ok(buffer.freeze())
}

/// The messages of an answer. Dropping it before its end cancels the call on the exporter.
pub(crate) struct Messages<T> {
    /// The initial metadata.
    pub(crate) headers: HeaderMap,
    body: Option<RecvStream>,
    /// What was received and not yet used: one piece, or, while a message is in several, their copy.
    whole: Bytes,
    partial: BytesMut,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Messages<T> {
    /// # Errors
    /// The status of a call that failed at once, and what stands for an answer that is not gRPC.
    pub(crate) fn new(response: Response<RecvStream>) -> Result<Self, Status> {
        let (head, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if head.status != StatusCode::OK || !head.headers.get(http::header::CONTENT_TYPE).is_some_and(is_grpc)
        {
            return Err(Status::unimplemented(format!("it answers HTTP {} instead of gRPC", head.status)));
        }
        let (whole, partial) = (Bytes::new(), BytesMut::new());
        Ok(Self { headers: head.headers, body: Some(body), whole, partial, message: PhantomData })
    }

    /// The next message that is there whole.
    fn take(&mut self) -> Result<Option<T>, Status> {
        let held = if self.partial.is_empty() { &self.whole[..] } else { &self.partial[..] };
        let Some((prefix, rest)) = held.split_at_checked(PREFIX) else { return Ok(None) };
        let length = (&prefix[1..]).get_u32() as usize;
        if prefix[0] != 0 || length > MAX_MESSAGE {
            return Err(Status::internal("the exporter sends what this client cannot read"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let mut message = match self.partial.is_empty() {
            true => self.whole.split_to(PREFIX + length),
            false => self.partial.split_to(PREFIX + length).freeze(),
        };
        message.advance(PREFIX);
        T::decode(message).map(Some).map_err(|error| {
            Status::internal(format!("the exporter sends what this client cannot read: {error}"))
        })
    }

    fn push(&mut self, data: Bytes) {
        if self.whole.is_empty() && self.partial.is_empty() {
            self.whole = data;
            return;
        }
        if self.partial.is_empty() {
            // The length is known, mostly: one allocation holds the message.
            let length = self.whole.get(1..PREFIX).map_or(0, |mut length| length.get_u32() as usize);
            self.partial.reserve(PREFIX + length.min(MAX_MESSAGE));
            self.partial.put(std::mem::take(&mut self.whole));
        }
        self.partial.put(data);
    }
}

impl<T: Message + Default> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.take().transpose() {
                return Poll::Ready(Some(message));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Room for as much again; it fails only for a stream that has ended.
                    drop(body.flow_control().release_capacity(data.len()));
                    this.push(data);
                }
                Some(Err(error)) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(transport(error))));
                }
                None => {
                    let trailers = ready!(body.poll_trailers(cx)).map_err(transport);
                    this.body = None;
                    let status = match trailers {
                        Err(status) => status,
                        Ok(trailers) => trailers
                            .as_ref()
                            .or(Some(&this.headers))
                            .and_then(Status::from_header_map)
                            .unwrap_or_else(|| {
                                Status::internal("the exporter ended its answer without a status")
                            }),
                    };
                    return Poll::Ready((status.code() != Code::Ok).then_some(Err(status)));
                }
            }
        }
    }
}

/// The sending direction of a byte stream, frame by frame. Dropping it ends the direction, or breaks
/// the stream off where something was not sent.
pub(crate) struct Frames {
    stream: SendStream<Bytes>,
    framing: Framing,
    /// What waits for room.
    queue: VecDeque<Bytes>,
    finished: bool,
    /// Whether an end without an end mark must not look like one.
    whole: bool,
}

impl Frames {
    pub(crate) fn new(stream: SendStream<Bytes>, framing: Framing) -> Self {
        Self { stream, framing, queue: VecDeque::new(), finished: false, whole: false }
    }

    /// As [`new`](Self::new), for what is worthless unless it is complete: dropping it breaks the stream off.
    pub(crate) fn whole_or_nothing(stream: SendStream<Bytes>) -> Self {
        let mut frames = Self::new(stream, Framing::Bytes);
        frames.whole = true;
        frames
    }

    fn push(&mut self, kind: FrameType, payload: Bytes) {
        let tag =
            |length: usize| prost::encoding::key_len(1) + prost::encoding::encoded_len_varint(length as u64);
        let payload_length = if payload.is_empty() { 0 } else { tag(payload.len()) + payload.len() };
        let kind_length = if kind == FrameType::Data { 0 } else { 2 };
        let mut head = BytesMut::with_capacity(PREFIX + 16);
        head.put_u8(0);
        head.put_u32((payload_length + kind_length) as u32);
        if kind != FrameType::Data {
            prost::encoding::int32::encode(2, &(kind as i32), &mut head);
        }
        if !payload.is_empty() {
            prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut head);
            prost::encoding::encode_varint(payload.len() as u64, &mut head);
        }
        self.queue.push_back(head.freeze());
        if !payload.is_empty() {
            self.queue.push_back(payload);
        }
    }

    /// Hands over what waits, as the other side makes room.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(front) = self.queue.front_mut() {
            let mut room = self.stream.capacity();
            if room == 0 {
                self.stream.reserve_capacity(front.len());
                room = match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error)));
                    }
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                };
            }
            let piece = front.split_to(room.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            let sent = self.stream.send_data(piece, false);
            sent.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.whole && !self.finished || !self.queue.is_empty() {
            self.stream.send_reset(Reason::CANCEL);
        } else if !self.finished {
            // It fails only where there is nothing left to end.
            drop(self.stream.send_data(Bytes::new(), true));
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
            Framing::Datagrams => self.push(FrameType::Data, payload),
            Framing::Bytes => {
                while !payload.is_empty() {
                    let piece = payload.split_to(payload.len().min(MAX_FRAME));
                    self.push(FrameType::Data, piece);
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
            self.push(FrameType::Goaway, Bytes::new());
        }
        if self.queue.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drained(cx))?;
        let ended = self.stream.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error)))
    }
}
