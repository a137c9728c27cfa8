//! Gathers what HTTP/2 writes at a time: its frames have at most 16 KiB, and each would be a write
//! of the socket, and would wake up who reads it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that wait for [`Gathered::poll_send`].
const LARGEST: usize = 64 << 10;

/// A transport whose flush waits for [`poll_send`](Self::poll_send). Clones are the same.
#[derive(Debug)]
pub(crate) struct Gathered<T>(Arc<Mutex<Inner<T>>>);

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<T> {
    transport: T,
    waiting: Vec<u8>,
    /// How much of the waiting data the transport has taken.
    taken: usize,
    needs_flush: bool,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.transport).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.taken += written,
            }
        }
        // A connection without traffic keeps no memory.
        (self.waiting, self.taken) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.needs_flush {
            ready!(self.poll_written(cx))?;
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Gathered<T> {
    pub(crate) fn new(transport: T) -> Self {
        let inner = Inner { transport, waiting: Vec::new(), taken: 0, needs_flush: false };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes and flushes what was gathered.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_send(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().transport).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
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
        let mut inner = self.inner();
        if inner.waiting.len() >= LARGEST {
            ready!(inner.poll_written(cx))?;
        }
        let before = inner.waiting.len();
        for piece in pieces {
            let room = LARGEST - inner.waiting.len();
            inner.waiting.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        inner.needs_flush = true;
        Poll::Ready(Ok(inner.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_flushed_waits_until_it_is_sent() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near = Gathered::new(near);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..3 {
            near.write_all(b"frame").await.unwrap();
            near.flush().await.unwrap();
        }
        let mut buffer = [0; 64];
        let read = Pin::new(&mut far).poll_read(&mut cx, &mut ReadBuf::new(&mut buffer));
        assert!(read.is_pending(), "a flush alone sends nothing");
        assert!(near.poll_send(&mut cx).is_ready());
        assert_eq!(far.read(&mut buffer).await.unwrap(), 15);
        // More than is gathered is written at once.
        let sending = tokio::spawn(async move {
            near.write_all(&vec![7; 3 * LARGEST]).await.unwrap();
            near.shutdown().await.unwrap();
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        sending.await.unwrap();
        assert_eq!(all.len(), 3 * LARGEST);
    }
}
