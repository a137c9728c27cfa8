//! A channel of bytes seen as `AsyncRead` and `AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ChannelReader, ChannelWriter, READ_SIZE, ReadHalf, WriteHalf, poll_drain};

/// Both directions of a [`Channel`](super::Channel) as `AsyncRead + AsyncWrite`.
#[derive(Debug)]
pub struct ChannelIo {
    reader: ReaderIo,
    writer: WriterIo,
}

impl ChannelIo {
    pub(super) fn new(reader: ReaderIo, writer: WriterIo) -> Self {
        Self { reader, writer }
    }

    /// Splits it into its two directions, which can be used and dropped separately.
    pub fn into_split(self) -> (ReaderIo, WriterIo) {
        (self.reader, self.writer)
    }
}

/// A [`ChannelReader`] as `AsyncRead`.
#[derive(Debug)]
pub struct ReaderIo {
    reader: ChannelReader,
    /// The part of a received frame that the caller's buffer had no room for.
    rest: Bytes,
}

impl ReaderIo {
    pub(super) fn new(reader: ChannelReader) -> Self {
        Self { reader, rest: Bytes::new() }
    }
}

impl AsyncRead for ReaderIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let ReadHalf::Io { io, .. } = &mut self.reader.half {
            return io.as_mut().poll_read(cx, buf);
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.reader).poll_next(cx)).transpose()? {
                Some(frame) => self.rest = frame,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = buf.remaining().min(self.rest.len());
        buf.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// A [`ChannelWriter`] as `AsyncWrite`.
#[derive(Debug)]
pub struct WriterIo {
    writer: ChannelWriter,
}

impl WriterIo {
    pub(super) fn new(writer: ChannelWriter) -> Self {
        Self { writer }
    }
}

impl AsyncWrite for WriterIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer.refuse_when_finished()?;
        if let WriteHalf::Io { io, pending } = &mut self.writer.half {
            ready!(poll_drain(io, pending, cx))?;
            return io.as_mut().poll_write(cx, buf);
        }
        ready!(Pin::new(&mut self.writer).poll_ready(cx))?;
        let length = buf.len().min(READ_SIZE);
        Pin::new(&mut self.writer).start_send(Bytes::copy_from_slice(&buf[..length]))?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl AsyncRead for ChannelIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for ChannelIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
