//! A byte stream through the router.
//!
//! Each frame is one message. The mark `GOAWAY` ends a direction; the router passes on the mark,
//! and not the end of a call's direction. Frames have at most 256 KiB: routers accept messages of
//! up to 4 MiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use jumpstarter_driver_core::{Result, Secret};
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use jumpstarter_protocol::{CallError, Encoded, Messages, Outgoing, rpc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Connection;
use crate::controller::lost;
use crate::identity::bearer;

/// The most bytes of one frame.
const MAX_FRAME: usize = 256 << 10;

/// A tunnel, on which the other end may not have arrived yet: what is written before waits at the
/// router.
#[derive(Debug)]
pub struct Tunnel {
    outgoing: Outgoing,
    /// Data that was written while an earlier frame is on its way: one frame.
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
    pub(crate) async fn open(connection: &Connection, token: &Secret) -> Result<Self> {
        let started = connection.start::<rpc::Stream>(bearer(token)?, None).await;
        let (outgoing, messages) = started.map_err(lost)?;
        Ok(Self {
            outgoing,
            waiting: BytesMut::new(),
            closing: Closing::No,
            messages,
            received: Bytes::new(),
            has_ended: false,
        })
    }

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
}

fn broken(error: CallError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, lost(error))
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.received.is_empty() && !this.has_ended {
            match ready!(Pin::new(&mut this.messages).poll_next(cx)) {
                Some(Ok(message)) => match message.frame_type() {
                    FrameType::Data => this.received = message.payload,
                    FrameType::Goaway => this.has_ended = true,
                    // Pings, and frames of later versions.
                    _ => {}
                },
                None => this.has_ended = true,
                Some(Err(error)) => {
                    this.has_ended = true;
                    return Poll::Ready(Err(broken(error)));
                }
            }
        }
        let length = this.received.len().min(buffer.remaining());
        buffer.put_slice(&this.received[..length]);
        this.received.advance(length);
        Poll::Ready(Ok(()))
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.closing != Closing::No {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // What waits is sent first; meanwhile more of it makes a larger frame.
        if this.outgoing.poll_drained(cx).map_err(broken)?.is_ready() && !this.waiting.is_empty() {
            this.push();
            // What is not sent now is sent by the next flush.
            let _is_sent = this.outgoing.poll_drained(cx).map_err(broken)?.is_ready();
        }
        if this.waiting.len() >= MAX_FRAME {
            return Poll::Pending;
        }
        let taken = this.take(pieces);
        if this.outgoing.is_drained() && !this.waiting.is_empty() {
            this.push();
            // What is not sent now is sent by the next flush.
            let _is_sent = this.outgoing.poll_drained(cx).map_err(broken)?.is_ready();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_sent(cx))?;
        if this.closing == Closing::No {
            this.closing = Closing::Marked;
            this.outgoing.push(Encoded::frame(FrameType::Goaway, Bytes::new()));
        }
        if this.closing == Closing::Marked {
            ready!(this.outgoing.poll_drained(cx)).map_err(broken)?;
            this.closing = Closing::Done;
            return Poll::Ready(this.outgoing.end().map_err(broken));
        }
        Poll::Ready(Ok(()))
    }
}
