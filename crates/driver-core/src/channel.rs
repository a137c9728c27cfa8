//! Byte connections: one type for sockets, serial lines, guests' ports and streams over the wire.

mod copy;
mod io_view;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::PollSender;

use crate::error::{Error, Result, ResultExt};

pub use copy::{Copied, Counters, copy_both};
pub use io_view::{ChannelIo, ReaderIo, WriterIo};

/// Frames that an in-memory [`Channel::pair`] holds in each direction before the sender waits.
pub const PAIR_FRAMES: usize = 16;
/// The most bytes of one read from a byte stream: 64 KiB.
pub const READ_SIZE: usize = 64 * 1024;
/// With less room than this, a new buffer is allocated instead of filling the rest of one in use.
const READ_MINIMUM: usize = 8 * 1024;

/// Whether the boundaries between a channel's frames carry meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A stream of bytes: frames may be merged and split on the way.
    Bytes,
    /// Each frame is one message (UDP, WebSocket): never merged, never split, possibly empty.
    Datagrams,
}

/// A connection: frames of bytes in both directions, each direction with its own end.
///
/// Everything is bounded: a slow reader makes its writer wait. [`finish`](Channel::finish) ends the
/// writing direction (half-close); the other side's reader then sees the end, while the reading
/// direction continues. Dropping a channel closes both directions.
///
/// ```
/// # use jumpstarter_driver_core::{Channel, Framing, Result};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let (mut here, mut there) = Channel::pair(Framing::Bytes);
/// here.send("ping").await?;
/// here.finish().await?;
/// assert_eq!(there.receive().await?.as_deref(), Some(&b"ping"[..]));
/// assert_eq!(there.receive().await?, None);
/// there.send("still open").await?;
/// assert_eq!(here.receive().await?.as_deref(), Some(&b"still open"[..]));
/// # Ok(()) }
/// ```
///
/// Pitfall: an empty frame is not the end; only `None` is.
#[derive(Debug)]
pub struct Channel {
    reader: ChannelReader,
    writer: ChannelWriter,
}

impl Channel {
    /// Two connected ends in memory, each direction holding up to [`PAIR_FRAMES`] frames.
    pub fn pair(framing: Framing) -> (Channel, Channel) {
        let (left_sender, right_receiver) = tokio::sync::mpsc::channel::<Bytes>(PAIR_FRAMES);
        let (right_sender, left_receiver) = tokio::sync::mpsc::channel::<Bytes>(PAIR_FRAMES);
        let end = |sender, mut receiver: tokio::sync::mpsc::Receiver<Bytes>| {
            let stream = futures_util::stream::poll_fn(move |cx| {
                receiver.poll_recv(cx).map(|frame| frame.map(Ok))
            });
            let sink = PollSender::new(sender)
                .sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
            Channel::from_parts(framing, stream, sink)
        };
        (end(left_sender, left_receiver), end(right_sender, right_receiver))
    }

    /// A byte channel over one object that reads and writes.
    ///
    /// Dropping only the writer does not end its direction ([`finish`](ChannelWriter::finish)
    /// does). Prefer [`from_split`](Channel::from_split) for types with owned halves.
    pub fn from_io<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Channel {
        let (reader, writer) = tokio::io::split(io);
        Self::from_split(reader, writer)
    }

    /// A byte channel over two halves, such as those of `TcpStream::into_split`.
    pub fn from_split<R, W>(reader: R, writer: W) -> Channel
    where
        R: AsyncRead + Send + 'static,
        W: AsyncWrite + Send + 'static,
    {
        let read = ReadHalf::Io { io: Box::pin(reader), buffer: BytesMut::new() };
        let write = WriteHalf::Io { io: Box::pin(writer), pending: Bytes::new() };
        Self::from_halves(Framing::Bytes, read, write)
    }

    /// A channel of frames: it receives the items of `stream` and sends into `sink`; finishing
    /// closes the sink.
    pub fn from_parts(
        framing: Framing,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        sink: impl Sink<Bytes, Error = io::Error> + Send + 'static,
    ) -> Channel {
        Self::from_halves(
            framing,
            ReadHalf::Frames(Box::pin(stream)),
            WriteHalf::Frames(Box::pin(sink)),
        )
    }

    fn from_halves(framing: Framing, read: ReadHalf, write: WriteHalf) -> Channel {
        Channel {
            reader: ChannelReader { framing, half: read, ended: false },
            writer: ChannelWriter { framing, half: write, finished: false },
        }
    }

    /// Whether frames are messages or pieces of a stream.
    pub fn framing(&self) -> Framing {
        self.reader.framing
    }

    /// Splits the channel into its two directions, which can be used and dropped separately.
    pub fn split(self) -> (ChannelReader, ChannelWriter) {
        (self.reader, self.writer)
    }

    /// As [`ChannelWriter::send`].
    ///
    /// # Errors
    /// As [`ChannelWriter::send`].
    pub async fn send(&mut self, frame: impl Into<Bytes>) -> Result<()> {
        self.writer.send(frame).await
    }

    /// As [`ChannelReader::receive`].
    ///
    /// # Errors
    /// As [`ChannelReader::receive`].
    pub async fn receive(&mut self) -> Result<Option<Bytes>> {
        self.reader.receive().await
    }

    /// As [`ChannelWriter::finish`]: ends the writing direction; the reading direction continues.
    ///
    /// # Errors
    /// As [`ChannelWriter::finish`].
    pub async fn finish(&mut self) -> Result<()> {
        self.writer.finish().await
    }

    /// The channel as `AsyncRead + AsyncWrite`; `shutdown` is the half-close.
    ///
    /// # Errors
    /// `InvalidArgument` for datagrams, whose boundaries would be lost.
    pub fn into_io(self) -> Result<ChannelIo> {
        Ok(ChannelIo::new(self.reader.into_async_read()?, self.writer.into_async_write()?))
    }
}

enum ReadHalf {
    /// The buffer is empty between reads, and keeps its allocation.
    Io {
        io: Pin<Box<dyn AsyncRead + Send>>,
        buffer: BytesMut,
    },
    Frames(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

/// The reading direction of a [`Channel`]; also a `Stream` of `io::Result<Bytes>`.
pub struct ChannelReader {
    framing: Framing,
    half: ReadHalf,
    ended: bool,
}

impl ChannelReader {
    /// Whether frames are messages or pieces of a stream.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Returns the next frame, or `None` once the other side has ended its direction.
    ///
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke; other kinds from the driver.
    pub async fn receive(&mut self) -> Result<Option<Bytes>> {
        self.next().await.transpose().context("receiving from the connection")
    }

    /// The direction as `AsyncRead`.
    ///
    /// # Errors
    /// `InvalidArgument` for datagrams, whose boundaries would be lost.
    pub fn into_async_read(self) -> Result<ReaderIo> {
        refuse_datagrams(self.framing)?;
        Ok(ReaderIo::new(self))
    }
}

impl Stream for ChannelReader {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match &mut self.half {
            ReadHalf::Frames(stream) => ready!(stream.as_mut().poll_next(cx)),
            ReadHalf::Io { io, buffer } => {
                if !buffer.try_reclaim(READ_SIZE) && buffer.capacity() < READ_MINIMUM {
                    buffer.reserve(READ_SIZE);
                }
                match ready!(poll_read_buf(io.as_mut(), cx, buffer)) {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(buffer.split().freeze())),
                    Err(error) => Some(Err(error)),
                }
            }
        };
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }
}

enum WriteHalf {
    /// `pending` holds bytes that were accepted and not yet written.
    Io {
        io: Pin<Box<dyn AsyncWrite + Send>>,
        pending: Bytes,
    },
    Frames(Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>),
}

/// The writing direction of a [`Channel`]; also a `Sink` of `Bytes`.
pub struct ChannelWriter {
    framing: Framing,
    half: WriteHalf,
    finished: bool,
}

impl ChannelWriter {
    /// Whether frames are messages or pieces of a stream.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Sends one frame, waiting while the other side is slow. A byte stream takes frames of any
    /// size; an empty frame adds nothing to it.
    ///
    /// If cancelled, the frame was either not accepted, or is sent completely before the next
    /// frame.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke, if the other side stopped reading, or after
    /// [`finish`](ChannelWriter::finish).
    pub async fn send(&mut self, frame: impl Into<Bytes>) -> Result<()> {
        SinkExt::send(self, frame.into()).await.context("sending to the connection")
    }

    /// Sends all pending bytes and ends this direction: the other side's reader sees the end.
    /// Idempotent.
    ///
    /// After a cancellation it may be called again.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke before everything was sent.
    pub async fn finish(&mut self) -> Result<()> {
        SinkExt::close(self).await.context("ending the sending direction of the connection")
    }

    /// The direction as `AsyncWrite`; `shutdown` is [`finish`](ChannelWriter::finish).
    ///
    /// # Errors
    /// `InvalidArgument` for datagrams, whose boundaries would be invented.
    pub fn into_async_write(self) -> Result<WriterIo> {
        refuse_datagrams(self.framing)?;
        Ok(WriterIo::new(self))
    }

    fn refuse_when_finished(&self) -> io::Result<()> {
        match self.finished {
            true => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the sending direction is finished"))
            }
            false => Ok(()),
        }
    }
}

/// Writes until nothing is pending.
fn poll_drain(
    io: &mut Pin<Box<dyn AsyncWrite + Send>>,
    pending: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while pending.has_remaining() {
        let written = ready!(io.as_mut().poll_write(cx, pending))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        pending.advance(written);
    }
    Poll::Ready(Ok(()))
}

impl Sink<Bytes> for ChannelWriter {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.refuse_when_finished()?;
        match &mut self.half {
            WriteHalf::Io { io, pending } => poll_drain(io, pending, cx),
            WriteHalf::Frames(sink) => sink.as_mut().poll_ready(cx),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        self.refuse_when_finished()?;
        match &mut self.half {
            WriteHalf::Io { pending, .. } => {
                *pending = frame;
                Ok(())
            }
            WriteHalf::Frames(sink) => sink.as_mut().start_send(frame),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.half {
            WriteHalf::Io { io, pending } => {
                ready!(poll_drain(io, pending, cx))?;
                io.as_mut().poll_flush(cx)
            }
            WriteHalf::Frames(sink) => sink.as_mut().poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        match &mut self.half {
            WriteHalf::Io { io, pending } => {
                ready!(poll_drain(io, pending, cx))?;
                match ready!(io.as_mut().poll_shutdown(cx)) {
                    // The other side has closed, and with it this direction.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                    result => result?,
                }
            }
            WriteHalf::Frames(sink) => ready!(sink.as_mut().poll_close(cx))?,
        }
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

fn refuse_datagrams(framing: Framing) -> Result<()> {
    match framing {
        Framing::Bytes => Ok(()),
        Framing::Datagrams => {
            Err(Error::invalid_argument("this connection carries datagrams, not a stream of bytes")
                .with_hint("receive and send its frames one by one"))
        }
    }
}

impl fmt::Debug for ChannelReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { framing, ended, .. } = self;
        f.debug_struct("ChannelReader")
            .field("framing", framing)
            .field("ended", ended)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { framing, finished, .. } = self;
        f.debug_struct("ChannelWriter")
            .field("framing", framing)
            .field("finished", finished)
            .finish_non_exhaustive()
    }
}
