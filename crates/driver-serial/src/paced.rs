//! A limit on the characters per second that are written.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Spreads writes evenly: pieces of at most 10 ms' worth, at least one byte, each followed by the
/// pause it costs. Reading is not limited.
pub(crate) struct Paced<T> {
    inner: T,
    pace: Option<Pace>,
}

struct Pace {
    per_byte: Duration,
    piece: usize,
    next: Pin<Box<Sleep>>,
}

impl<T> Paced<T> {
    /// `characters_per_second` is at least 0.001; `None` and 0 are no limit.
    pub(crate) fn new(inner: T, characters_per_second: Option<f64>) -> Self {
        let pace = characters_per_second.filter(|cps| *cps > 0.0).map(|cps| Pace {
            per_byte: Duration::from_secs_f64(1.0 / cps.max(0.001)),
            piece: ((cps * 0.01) as usize).max(1),
            next: Box::pin(sleep_until(Instant::now())),
        });
        Self { inner, pace }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: fmt::Debug> fmt::Debug for Paced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(pace) = &mut this.pace else {
            return Pin::new(&mut this.inner).poll_write(cx, bytes);
        };
        ready!(pace.next.as_mut().poll(cx));
        let piece = &bytes[..bytes.len().min(pace.piece)];
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, piece))?;
        let pause = pace.per_byte.saturating_mul(u32::try_from(written).unwrap_or(u32::MAX));
        pace.next.as_mut().reset(Instant::now() + pause);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long `count` bytes take at `cps`, in the runtime's paused clock.
    async fn seconds(count: usize, cps: f64) -> f64 {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut paced = Paced::new(near, Some(cps));
        let start = Instant::now();
        paced.write_all(&vec![b'x'; count]).await.unwrap();
        let took = start.elapsed().as_secs_f64();
        drop(paced);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), count);
        took
    }

    #[tokio::test(start_paused = true)]
    async fn never_faster_than_the_limit_and_not_much_slower() {
        for (count, cps) in [(21, 10.0), (2001, 1000.0), (40_001, 20_000.0)] {
            let took = seconds(count, cps).await;
            let ideal = (count - 1) as f64 / cps;
            // The last piece costs nothing; a timer of whole milliseconds may add one a piece.
            assert!(
                took >= ideal * 0.98 && took < ideal * 1.3,
                "{count} at {cps}: {took} s, ideal {ideal} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        assert_eq!(seconds(100_000, 0.0).await, 0.0);
    }
}
