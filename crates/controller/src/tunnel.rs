//! A byte stream through the router.
//!
//! Each frame is one message. The mark `GOAWAY` ends a direction; the router passes on the mark,
//! and not the end of a call's direction. Frames have some 256 KiB at most: routers accept messages
//! of up to 4 MiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use jumpstarter_driver_core::{Result, Secret};
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use jumpstarter_protocol::{CallError, ClientTls, Encoded, Messages, Outgoing, rpc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::controller::lost;
use crate::driven::Driver;
use crate::identity::bearer;
use crate::options::Keepalive;
use crate::{Endpoint, Trust, connection};

/// The most bytes of one frame: a DATA frame of the HTTP/2 inside of the tunnel, with its head.
const MAX_FRAME: usize = (256 << 10) + 64;

/// A tunnel, on which the other end may not have arrived yet: what is written before waits at the
/// router.
#[derive(Debug)]
pub struct Tunnel {
    frames: Frames,
    /// The connection to the router, which is dropped last.
    driver: Driver,
}

/// The two directions.
#[derive(Debug)]
struct Frames {
    outgoing: Outgoing,
    /// Data that was written since the last flush: one frame.
    waiting: BytesMut,
    /// How far the end of this direction is.
    closing: Closing,
    messages: Messages<StreamResponse>,
    /// What is left of the last frame.
    received: Bytes,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// The mark is sent.
    Marked,
    Done,
}

impl Tunnel {
    pub(crate) async fn open(
        router: &Endpoint,
        trust: &Trust,
        tls: &ClientTls,
        keepalive: Keepalive,
        token: &Secret,
    ) -> Result<Self> {
        let metadata = bearer(token)?;
        let (caller, work) = connection::open(router, trust, tls, keepalive).await?;
        let driver = Driver::spawn(work);
        let started = caller.start::<rpc::Stream>(metadata, None).await;
        let (outgoing, messages) = started.map_err(lost)?;
        let frames = Frames {
            outgoing,
            waiting: BytesMut::new(),
            closing: Closing::No,
            messages,
            received: Bytes::new(),
            has_ended: false,
        };
        Ok(Self { frames, driver })
    }
}

impl Frames {
    /// Sends what was written.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.outgoing.poll_drained(cx)).map_err(broken)?;
            if self.waiting.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.push();
        }
    }

    /// Makes a frame of the waiting data.
    fn push(&mut self) {
        let payload = self.waiting.split().freeze();
        self.outgoing.push(Encoded::frame(FrameType::Data, payload));
    }

    /// Takes as much of `pieces` as there is room for.
    fn take(&mut self, pieces: &[io::IoSlice<'_>]) -> usize {
        let before = self.waiting.len();
        for piece in pieces {
            let room = MAX_FRAME - self.waiting.len();
            self.waiting.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        self.waiting.len() - before
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() && !self.has_ended {
            match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
                Some(Ok(message)) => match message.frame_type() {
                    FrameType::Data => self.received = message.payload,
                    FrameType::Goaway => self.has_ended = true,
                    // Pings, and frames of later versions.
                    _ => {}
                },
                None => self.has_ended = true,
                Some(Err(error)) => {
                    self.has_ended = true;
                    return Poll::Ready(Err(broken(error)));
                }
            }
        }
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received[..length]);
        self.received.advance(length);
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closing != Closing::No {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // A flush sends what is less than a frame.
        if self.waiting.len() >= MAX_FRAME {
            ready!(self.outgoing.poll_drained(cx)).map_err(broken)?;
            self.push();
        }
        Poll::Ready(Ok(self.take(pieces)))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        if self.closing == Closing::No {
            self.closing = Closing::Marked;
            self.outgoing.push(Encoded::frame(FrameType::Goaway, Bytes::new()));
        }
        if self.closing == Closing::Marked {
            ready!(self.outgoing.poll_drained(cx)).map_err(broken)?;
            self.closing = Closing::Done;
            return Poll::Ready(self.outgoing.end().map_err(broken));
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: CallError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, lost(error))
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { frames, driver } = self.get_mut();
        driver.read(cx, |cx| frames.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { frames, driver } = self.get_mut();
        driver.write(|| frames.poll_write(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { frames, driver } = self.get_mut();
        driver.write(|| frames.poll_sent(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { frames, driver } = self.get_mut();
        driver.write(|| frames.poll_shutdown(cx))
    }
}
