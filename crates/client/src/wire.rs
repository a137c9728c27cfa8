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
/// The most frames that are merged into one: each keeps the buffer in which it arrived.
const MOST_MERGED: usize = 256;

/// The sending direction of a byte stream, frame by frame. Dropping it ends the direction, or
/// breaks the stream off if something was not sent.
pub(crate) struct Frames {
    outgoing: Outgoing,
    framing: Framing,
    /// Whether frames are merged while the exporter takes no more.
    merges: bool,
    /// The bytes of the next frame.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    finished: bool,
    /// Whether a drop must break the stream off, instead of ending it.
    whole: bool,
}

impl Frames {
    pub(crate) fn new(outgoing: Outgoing, framing: Framing) -> Self {
        Self {
            outgoing,
            framing,
            merges: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            finished: false,
            whole: false,
        }
    }

    /// Merges frames that wait into ones of [`MAX_FRAME`].
    pub(crate) fn merging(mut self) -> Self {
        self.merges = true;
        self
    }

    /// As [`new`](Self::new), for data that is worthless unless complete: dropping it breaks the
    /// stream off.
    pub(crate) fn whole_or_nothing(outgoing: Outgoing) -> Self {
        let mut frames = Self::new(outgoing, Framing::Bytes).merging();
        frames.whole = true;
        frames
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.outgoing.poll_drained(cx)).map_err(broken)?;
            if self.waiting.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.waiting_bytes = 0;
            self.outgoing.push_data(self.waiting.drain(..));
        }
    }

    fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.outgoing.is_drained()
    }
}

fn broken(error: CallError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.whole && !self.finished || !self.is_drained() {
            self.outgoing.reset();
        } else if !self.finished {
            // It fails only if there is nothing left to end.
            drop(self.outgoing.end());
        }
    }
}

impl Sink<Bytes> for Frames {
    type Error = io::Error;

    /// There is room while the next frame is not full.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_drained(cx) {
            Poll::Pending
                if self.merges
                    && self.waiting_bytes < MAX_FRAME
                    && self.waiting.len() < MOST_MERGED =>
            {
                Poll::Ready(Ok(()))
            }
            drained => drained,
        }
    }

    fn start_send(mut self: Pin<&mut Self>, mut payload: Bytes) -> io::Result<()> {
        let this = &mut *self;
        match this.framing {
            Framing::Datagrams => this.outgoing.push(Encoded::frame(FrameType::Data, payload)),
            Framing::Bytes => {
                while this.waiting_bytes + payload.len() > MAX_FRAME {
                    let piece = payload.split_to(MAX_FRAME - this.waiting_bytes);
                    this.outgoing.push_data(this.waiting.drain(..).chain([piece]));
                    this.waiting_bytes = 0;
                }
                if !payload.is_empty() {
                    this.waiting_bytes += payload.len();
                    this.waiting.push(payload);
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
            ready!(self.poll_drained(cx))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{SinkExt, StreamExt, stream};
    use http::Request;
    use jumpstarter_protocol::http2::{ClientConnection, ServerConnection};
    use jumpstarter_protocol::{Incoming, v1::StreamRequest};

    const FRAMES: usize = 40;
    const FRAME: usize = 3000;
    /// Some frames of the server's.
    const WINDOW: u32 = 16 << 10;

    /// The payloads that a server receives, which reads after all frames were sent, if they can be.
    async fn received(of: impl FnOnce(Outgoing) -> Frames) -> Vec<Bytes> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn(async move {
            let mut server = ServerConnection::open(far, WINDOW, 1 << 20, 8).await.unwrap();
            let (request, _respond) = server.accept().await.unwrap().unwrap();
            let mut incoming = Incoming::<StreamRequest>::new(request.into_body(), None, 1 << 20);
            let messages = stream::poll_fn(move |cx| incoming.poll_message(cx));
            let payloads = messages.map(|message| message.unwrap().payload).collect::<Vec<_>>();
            tokio::select! {
                payloads = payloads => payloads,
                other = server.accept() => panic!("{other:?}"),
            }
        });
        let (requests, connection) = ClientConnection::open(near).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().uri("http://exporter/").body(()).unwrap();
        let (_answer, outgoing) = requests.send(request).await.unwrap();
        let mut frames = of(outgoing);
        for number in 0..FRAMES {
            frames.feed(vec![number as u8; FRAME].into()).await.unwrap();
        }
        frames.close().await.unwrap();
        let mut payloads = serving.await.unwrap();
        connection.abort();
        assert_eq!(payloads.pop().unwrap(), "", "the end mark");
        let bytes = (0..FRAMES).flat_map(|number| vec![number as u8; FRAME]).collect::<Vec<_>>();
        assert!(payloads.concat() == bytes);
        payloads
    }

    #[tokio::test]
    async fn bytes_that_wait_are_merged_and_datagrams_never_are() {
        let merged = received(|outgoing| Frames::new(outgoing, Framing::Bytes).merging()).await;
        assert_eq!(merged[0].len(), FRAME, "the first one need not wait");
        assert!(merged.len() < FRAMES / 2, "{} frames", merged.len());
        for framing in [Framing::Bytes, Framing::Datagrams] {
            let payloads = received(|outgoing| Frames::new(outgoing, framing)).await;
            assert_eq!(payloads.len(), FRAMES, "{framing:?}");
        }
    }
}
