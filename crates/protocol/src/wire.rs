//! gRPC's framing on HTTP/2 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), for
//! both sides: incoming messages, and outgoing ones within the other side's window.
//!
//! Not tonic's client and server: here payloads are not copied, a broken image ends with a reset
//! and not with an end that looks like success, and a call under load costs half.

use std::collections::VecDeque;
use std::io::Read;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue};
use jumpstarter_driver_core::Error;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int32, key_len};
use tokio::time::Sleep;

use crate::CallError;
use crate::budget::{Budget, Hold, Share};
use crate::error::broken;
use crate::http2::Body;
use crate::v1::FrameType;

/// The prefix of each message: whether it is compressed (ours never are), and its length in four
/// bytes.
const PREFIX: usize = 5;
/// The longest message that is copied out of the received data, so that it keeps nothing else of
/// it.
const COPIED: usize = 16 << 10;
/// The longest message whose memory does not count.
const UNCOUNTED: usize = 1 << 10;
/// The longest payload of a frame that is copied next to its head: one DATA frame of HTTP/2 carries
/// both.
const JOINED: usize = 1 << 10;
/// How long a large message may make no progress.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Encodes a message with its prefix.
///
/// # Errors
/// `InvalidArgument` for 4 GiB and more.
pub fn encode(message: &impl Message) -> Result<Bytes, Error> {
    let length = message.encoded_len();
    let told =
        u32::try_from(length).map_err(|_| Error::invalid_argument("the message is too long"))?;
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    buffer.put_u8(0);
    buffer.put_u32(told);
    message.encode(&mut buffer).map_err(|_| Error::internal("a buffer was too small"))?;
    Ok(buffer.freeze())
}

/// An encoded message with its prefix: in two pieces for a frame, whose payload is not copied if it
/// is long.
#[derive(Clone, Debug)]
pub struct Encoded {
    head: Bytes,
    payload: Bytes,
}

impl Encoded {
    /// Any message.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn message(message: &impl Message) -> Result<Self, Error> {
        Ok(Self { head: encode(message)?, payload: Bytes::new() })
    }

    /// A `StreamRequest` or `StreamResponse`: both have the same encoding. The payload must be
    /// shorter than 4 GiB.
    pub fn frame(kind: FrameType, payload: Bytes) -> Self {
        let joined = if payload.len() <= JOINED { payload.len() } else { 0 };
        let mut head = frame_head(kind, payload.len(), joined);
        head.extend_from_slice(&payload[..joined]);
        let payload = if joined > 0 { Bytes::new() } else { payload };
        Self { head: head.freeze(), payload }
    }
}

/// What precedes a frame's payload of that many bytes, with room for more.
fn frame_head(kind: FrameType, payload: usize, room: usize) -> BytesMut {
    let payload_length = match payload {
        0 => 0,
        length => key_len(1) + encoded_len_varint(length as u64) + length,
    };
    let kind_length =
        if kind == FrameType::Data { 0 } else { int32::encoded_len(2, &(kind as i32)) };
    let mut head = BytesMut::with_capacity(PREFIX + 16 + room);
    head.put_u8(0);
    head.put_u32((payload_length + kind_length) as u32);
    if kind != FrameType::Data {
        int32::encode(2, &(kind as i32), &mut head);
    }
    if payload > 0 {
        encode_key(1, WireType::LengthDelimited, &mut head);
        encode_varint(payload as u64, &mut head);
    }
    head
}

/// The compression of single messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEncoding {
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which gRPC calls deflate.
    Deflate,
}

impl MessageEncoding {
    /// The supported encodings, for the header `grpc-accept-encoding`.
    pub const ACCEPTED: &str = "identity,deflate,gzip";

    /// The value of the header `grpc-encoding`; `None` without compression.
    ///
    /// # Errors
    /// `Unimplemented` for any other encoding.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(b"gzip") => Ok(Some(Self::Gzip)),
            Some(b"deflate") => Ok(Some(Self::Deflate)),
            Some(_) => {
                Err(Error::unimplemented("messages are compressed in a way that is not supported"))
            }
        }
    }

    /// Decompresses a message, up to `max_bytes`.
    fn decompress(self, message: &[u8], max_bytes: usize) -> Result<Bytes, Error> {
        let limit = max_bytes as u64 + 1;
        let mut out = Vec::new();
        let read = match self {
            Self::Gzip => GzDecoder::new(message).take(limit).read_to_end(&mut out),
            Self::Deflate => ZlibDecoder::new(message).take(limit).read_to_end(&mut out),
        };
        match read {
            Ok(length) if length > max_bytes => Err(too_long(max_bytes)),
            Ok(_) => Ok(out.into()),
            Err(error) => {
                Err(Error::internal("a message cannot be decompressed").with_source(error))
            }
        }
    }
}

/// The decoder names each nesting level of the fault.
fn undecodable(error: &prost::DecodeError) -> Error {
    let text = error.to_string();
    let parts: Vec<&str> = text.split(": ").collect();
    let why = match parts.as_slice() {
        [first, .., last] if parts.len() > 5 => format!("{first}: …: {last}"),
        _ => text.clone(),
    };
    Error::internal(format!("a message cannot be read: {why}"))
}

fn unreadable<T>(error: Error) -> Poll<Option<Result<T, CallError>>> {
    Poll::Ready(Some(Err(CallError::Unreadable(error))))
}

fn too_long(max_bytes: usize) -> Error {
    let message = format!("a message has more than the {max_bytes} bytes that are accepted");
    Error::resource_exhausted(message)
}

/// The messages of a body, in order. Received data opens the window again only once it is
/// requested, so a slow reader slows the sender down.
#[derive(Debug)]
pub struct Incoming<T> {
    body: RecvStream,
    encoding: Option<MessageEncoding>,
    max_message_bytes: usize,
    ended: bool,
    /// The received and unused data: one piece, or a copy of the pieces of one message.
    whole: Bytes,
    partial: BytesMut,
    memory: Reserved,
    /// The deadline for progress of a large message.
    stall: Option<Pin<Box<Sleep>>>,
    message: PhantomData<fn() -> T>,
}

/// The memory for the next message.
#[derive(Debug)]
struct Reserved {
    /// `None` if memory is not limited.
    budget: Option<Budget>,
    /// The stream's share, once it is needed.
    share: Option<Share>,
    hold: Option<Hold>,
    /// The deadline for waiting for it.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Reserved {
    /// The share to take that much from; `None` if it does not count.
    fn share(&mut self, bytes: usize) -> Option<&Share> {
        let budget = self.budget.as_ref().filter(|_| bytes > UNCOUNTED)?;
        Some(self.share.get_or_insert_with(|| budget.stream()))
    }

    fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Error>> {
        if self.hold.is_none() {
            let mut patience = self.patience.take();
            let taken = self.share(bytes).map(|share| share.poll_take(cx, bytes, &mut patience));
            self.patience = patience;
            if let Some(taken) = taken {
                self.hold = Some(ready!(taken)?);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Holds that much instead, at once.
    fn exchange(&mut self, bytes: usize) -> Result<(), Error> {
        self.hold = None;
        self.hold = self.share(bytes).map(|share| share.take(bytes)).transpose()?;
        Ok(())
    }
}

/// A message, and its memory, which is held until all parts of it are dropped.
struct Held {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Message + Default> Incoming<T> {
    /// Reads the messages in `body`, each at most that long, and possibly compressed with that
    /// encoding.
    pub fn new(body: Body, encoding: Option<MessageEncoding>, max_message_bytes: usize) -> Self {
        Self {
            body: body.0,
            encoding,
            max_message_bytes,
            ended: false,
            whole: Bytes::new(),
            partial: BytesMut::new(),
            memory: Reserved { budget: None, share: None, hold: None, patience: None },
            stall: None,
            message: PhantomData,
        }
    }

    /// Limits the memory to this budget.
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.memory.budget = Some(budget);
        self
    }

    /// Returns the next message; `None` at the body's end.
    ///
    /// # Errors
    /// `ResourceExhausted` for a message that is too long, or without memory, `DeadlineExceeded`
    /// for a large one that stalls, `Internal` for a malformed or truncated one, and the
    /// connection's errors. Nothing follows an error.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_next(cx));
        self.ended = !matches!(next, Some(Ok(_)));
        if self.ended {
            (self.whole, self.partial, self.memory.hold) = Default::default();
        }
        Poll::Ready(next)
    }

    /// Returns the trailers after the body's end.
    ///
    /// # Errors
    /// The connection's errors.
    pub fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, CallError>> {
        self.body.poll_trailers(cx).map_err(broken)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        loop {
            if let Some((encoding, length)) = self.next_length().map_err(CallError::Unreadable)? {
                ready!(self.memory.poll(cx, length)).map_err(CallError::Unreadable)?;
                if let Some(message) = self.take(encoding, length).transpose() {
                    return Poll::Ready(Some(message.map_err(CallError::Unreadable)));
                }
            }
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // It fails only for a stream that has ended.
                    drop(self.body.flow_control().release_capacity(data.len()));
                    self.stall = None;
                    self.push(data);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(error)))),
                Poll::Ready(None) if self.whole.is_empty() && self.partial.is_empty() => {
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => {
                    return unreadable(Error::internal("a message was cut off"));
                }
                Poll::Pending => {
                    ready!(self.poll_stall(cx));
                    return unreadable(Error::deadline_exceeded(format!(
                        "nothing more of a message came for {} s",
                        STALL_LIMIT.as_secs()
                    )));
                }
            }
        }
    }

    /// Waits until a message that holds shared memory has made no progress for too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.memory.hold.as_ref().is_some_and(Hold::is_shared) {
            return Poll::Pending;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_LIMIT)));
        stall.as_mut().poll(cx)
    }

    fn held(&self) -> &[u8] {
        if self.partial.is_empty() { &self.whole } else { &self.partial }
    }

    /// The compression and the encoded length of the next message, once they are known.
    fn next_length(&self) -> Result<Option<(Option<MessageEncoding>, usize)>, Error> {
        let Some((prefix, _)) = self.held().split_at_checked(PREFIX) else { return Ok(None) };
        let length = (&prefix[1..]).get_u32() as usize;
        let encoding = match (prefix[0], self.encoding) {
            (0, _) => None,
            (1, Some(encoding)) => Some(encoding),
            _ => return Err(Error::internal("a message is compressed without a named encoding")),
        };
        match length > self.max_message_bytes {
            true => Err(too_long(self.max_message_bytes)),
            false => Ok(Some((encoding, length))),
        }
    }

    /// The next message of that length, if it has arrived completely.
    fn take(
        &mut self,
        encoding: Option<MessageEncoding>,
        length: usize,
    ) -> Result<Option<T>, Error> {
        if self.held().len() < PREFIX + length {
            return Ok(None);
        }
        let mut bytes = if self.partial.is_empty() {
            self.whole.split_to(PREFIX + length)
        } else {
            // Data of the next message must not keep this one's memory.
            let mut message = std::mem::take(&mut self.partial);
            self.whole = Bytes::copy_from_slice(&message[PREFIX + length..]);
            message.truncate(PREFIX + length);
            message.freeze()
        };
        bytes.advance(PREFIX);
        if let Some(encoding) = encoding {
            bytes = encoding.decompress(&bytes, self.max_message_bytes)?;
            self.memory.exchange(bytes.len())?;
        } else if self.memory.budget.is_some() && length <= COPIED {
            bytes = Bytes::copy_from_slice(&bytes);
        }
        let message = match self.memory.hold.take() {
            Some(hold) => Bytes::from_owner(Held { bytes, _hold: hold }),
            None => bytes,
        };
        T::decode(message).map(Some).map_err(|error| undecodable(&error))
    }

    fn push(&mut self, data: Bytes) {
        if self.whole.is_empty() && self.partial.is_empty() {
            self.whole = data;
            return;
        }
        if self.partial.is_empty() {
            // The length is usually known: one allocation holds the message.
            let length =
                self.whole.get(1..PREFIX).map_or(0, |mut length| length.get_u32() as usize);
            self.partial.reserve(PREFIX + length.min(self.max_message_bytes));
            self.partial.put(std::mem::take(&mut self.whole));
        }
        self.partial.put(data);
    }
}

/// A direction in which messages are sent. Dropping it before its end resets the stream.
#[derive(Debug)]
pub struct Outgoing {
    stream: SendStream<Bytes>,
    /// Data that waits for room.
    queue: VecDeque<Bytes>,
}

impl Outgoing {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, queue: VecDeque::new() }
    }

    /// Queues a message; [`poll_drained`](Self::poll_drained) sends it.
    pub fn push(&mut self, message: Encoded) {
        self.queue.push_back(message.head);
        if !message.payload.is_empty() {
            self.queue.push_back(message.payload);
        }
    }

    /// Queues one frame of data whose payload is these pieces, which are not copied: together they
    /// must be shorter than 4 GiB.
    pub fn push_data(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        let at = self.queue.len();
        self.queue.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        if self.queue.len() == at + 1
            && let Some(payload) = self.queue.pop_back()
        {
            return self.push(Encoded::frame(FrameType::Data, payload));
        }
        let length = self.queue.range(at..).map(Bytes::len).sum();
        self.queue.insert(at, frame_head(FrameType::Data, length, 0).freeze());
    }

    /// Whether all queued messages are sent.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends queued messages within the other side's window.
    ///
    /// # Errors
    /// The stream's error; it has ended then.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        while let Some(front) = self.queue.front_mut() {
            let mut room = self.stream.capacity();
            if room == 0 {
                self.stream.reserve_capacity(front.len());
                room = match ready!(self.stream.poll_capacity(cx)) {
                    Some(room) => room.map_err(broken)?,
                    None => return Poll::Ready(Err(broken(Reason::STREAM_CLOSED.into()))),
                };
            }
            let piece = front.split_to(room.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.stream.send_data(piece, false).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Completes when the other side, or the end of the connection, has ended the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Ends the direction after everything was sent.
    ///
    /// # Errors
    /// Fails if the stream has ended.
    pub fn end(&mut self) -> Result<(), CallError> {
        self.stream.send_data(Bytes::new(), true).map_err(broken)
    }

    /// Sends a message and ends the direction. What the other side has no room for is kept.
    ///
    /// # Errors
    /// Fails if the stream has ended.
    pub fn end_after(&mut self, message: Bytes) -> Result<(), CallError> {
        self.stream.send_data(message, true).map_err(broken)
    }

    /// Ends the direction with trailers after everything was sent.
    ///
    /// # Errors
    /// Fails if the stream has ended.
    pub fn end_with(&mut self, trailers: HeaderMap) -> Result<(), CallError> {
        self.stream.send_trailers(trailers).map_err(broken)
    }

    /// Resets the stream.
    pub fn reset(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}
