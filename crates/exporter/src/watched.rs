//! A connection as HTTP/2 reads and writes it: its [authority](crate::authority), the time limits
//! for the client's start and for the headers of a call, and the limit of frames without data.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::authority::{Frames, Phase};

/// How long a connection may take to start HTTP/2.
pub(crate) const OPENING_LIMIT: Duration = Duration::from_secs(10);
/// How long headers may take, from their start to their end.
const HEADERS_LIMIT: Duration = Duration::from_secs(30);

/// A transport that is watched.
pub(crate) struct Watched<T> {
    inner: T,
    frames: Frames,
    pace: Pace,
    flooded: Arc<Notify>,
    phase: Phase,
    /// The end of the time limit of this phase.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    #[cfg(test)]
    pub(crate) fn new(transport: T) -> Self {
        Self::opening_within(OPENING_LIMIT, transport)
    }

    /// A transport whose client has to start HTTP/2 in this time.
    pub(crate) fn opening_within(limit: Duration, transport: T) -> Self {
        Self {
            inner: transport,
            frames: Frames::default(),
            pace: Pace::new(),
            flooded: Arc::default(),
            phase: Phase::Opening,
            limit: Some(Box::pin(tokio::time::sleep(limit))),
        }
    }

    /// Notified once if the client sends too many frames without data; afterwards nothing is read.
    pub(crate) fn flooded(&self) -> Arc<Notify> {
        self.flooded.clone()
    }

    /// Records the bytes that were read.
    fn note(&mut self) {
        let (cost, credit) = self.frames.take_counts();
        if cost > 0 && !self.pace.spend(cost, credit) {
            self.flooded.notify_one();
        }
        let phase = self.frames.phase();
        if phase != self.phase {
            self.phase = phase;
            self.limit = match phase {
                Phase::Opening => return,
                Phase::Headers(_) => Some(Box::pin(tokio::time::sleep(HEADERS_LIMIT))),
                Phase::Between => None,
            };
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.pace.is_exceeded() {
            return Poll::Pending;
        }
        let start = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.frames.pass(&mut buffer.filled_mut()[start..]);
        this.note();
        if let Some(limit) = &mut this.limit
            && read.is_pending()
            && limit.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client said nothing",
            )));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        self.pace.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.pace.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The limit of a client's frames without data: some at once, some each second, and more for more
/// data in either direction, since a window update or a ping may follow each piece of it.
#[derive(Debug)]
struct Pace {
    left: f64,
    at: Instant,
    written: usize,
    exceeded: bool,
}

impl Pace {
    const AT_ONCE: f64 = 1000.0;
    const EACH_SECOND: f64 = 200.0;
    /// The bytes sent to the client for which it may send one frame.
    const BYTES: usize = 256;

    fn new() -> Self {
        Self { left: Self::AT_ONCE, at: Instant::now(), written: 0, exceeded: false }
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written += bytes;
        }
    }

    fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Whether another `cost` is allowed.
    fn spend(&mut self, cost: u32, credit: u32) -> bool {
        let now = Instant::now();
        let earned = (now - self.at).as_secs_f64() * Self::EACH_SECOND
            + f64::from(u32::try_from(self.written / Self::BYTES).unwrap_or(u32::MAX))
            + f64::from(credit);
        self.left =
            (self.left + earned).min(Self::AT_ONCE.max(f64::from(credit))) - f64::from(cost);
        (self.at, self.written) = (now, self.written % Self::BYTES);
        self.exceeded = self.left < 0.0;
        !self.exceeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_that_carry_nothing_are_few_unless_data_goes_along() {
        let mut pace = Pace::new();
        assert!(pace.spend(1000, 0));
        assert!(!pace.spend(1, 0));
        let mut pace = Pace::new();
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_millis(5)).await;
            assert!(pace.spend(1, 0), "those of a connection that is kept alive");
        }
        for _ in 0..100_000 {
            pace.wrote(&Poll::Ready(Ok(1024)));
            assert!(pace.spend(4, 0), "updates of windows");
        }
        for _ in 0..1000 {
            assert!(pace.spend(100, 200), "calls that are given up");
        }
        // Answers to pings earn no pings.
        let mut pings = 0;
        while pace.spend(1, 0) {
            pings += 1;
            pace.wrote(&Poll::Ready(Ok(17)));
        }
        assert!(pings < 1500, "{pings}");
    }
}
