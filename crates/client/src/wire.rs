//! The frames of a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use jumpstarter_driver_core::Framing;
use jumpstarter_protocol::v1::FrameType;
use jumpstarter_protocol::{CallError, Encoded, Outgoing};

/// The largest accepted message.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;
/// The most bytes that one frame carries; datagrams are never split.
pub(crate) const MAX_FRAME: usize = 256 * 1024;

/// The sending direction of a byte stream, frame by frame. Dropping it ends the direction, or
/// breaks the stream off if something was not sent.
pub(crate) struct Frames {
    outgoing: Outgoing,
    framing: Framing,
    finished: bool,
    /// Whether a drop must break the stream off, instead of ending it.
    whole: bool,
}

impl Frames {
    pub(crate) fn new(outgoing: Outgoing, framing: Framing) -> Self {
        Self { outgoing, framing, finished: false, whole: false }
    }

    /// As [`new`](Self::new), for data that is worthless unless complete: dropping it breaks the
    /// stream off.
    pub(crate) fn whole_or_nothing(outgoing: Outgoing) -> Self {
        let mut frames = Self::new(outgoing, Framing::Bytes);
        frames.whole = true;
        frames
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_drained(cx).map_err(broken)
    }
}

fn broken(error: CallError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.whole && !self.finished || !self.outgoing.is_drained() {
            self.outgoing.reset();
        } else if !self.finished {
            // It fails only if there is nothing left to end.
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

    /// Sends the end mark, and ends the direction.
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
