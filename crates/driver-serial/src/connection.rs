//! Open connections of a port: each can be ended from outside, while others hold its channel.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The byte stream of a connection: emptied when the connection ends, so that the port is released
/// at once even if nobody polls the channel.
pub(crate) struct Slot<T> {
    stream: Mutex<Option<T>>,
    ended: CancellationToken,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // What a panicking holder leaves is a stream, as valid as any.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` on the stream, unless the connection has ended.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock().as_mut().map(action)
    }
}

trait End: Send + Sync {
    fn end(&self);
    fn open(&self) -> bool;
}

impl<T: Send> End for Slot<T> {
    fn end(&self) {
        let stream = self.lock().take();
        self.ended.cancel();
        drop(stream);
    }

    fn open(&self) -> bool {
        self.lock().is_some()
    }
}

/// The connections of one port that may still be open.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Vec<Weak<dyn End>>>);

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn End>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection of `stream` and remembers it while it is open.
    pub(crate) fn open<T: Send + 'static>(&self, stream: T) -> Connection<T> {
        let slot =
            Arc::new(Slot { stream: Mutex::new(Some(stream)), ended: CancellationToken::new() });
        let weak: Weak<Slot<T>> = Arc::downgrade(&slot);
        let mut list = self.lock();
        list.retain(|other| other.upgrade().is_some_and(|other| other.open()));
        list.push(weak);
        let wait = || Box::pin(slot.ended.clone().cancelled_owned());
        Connection { read_ended: wait(), write_ended: wait(), slot }
    }

    /// Ends every connection: readers see the end, writers a broken pipe.
    pub(crate) fn end_all(&self) {
        let list = std::mem::take(&mut *self.lock());
        for slot in list.iter().filter_map(Weak::upgrade) {
            slot.end();
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().iter().filter_map(Weak::upgrade).filter(|slot| slot.open()).count()
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open", self.count())
    }
}

/// A byte stream that [`Connections::end_all`] can end. Dropping it closes the stream.
pub(crate) struct Connection<T> {
    slot: Arc<Slot<T>>,
    read_ended: Pin<Box<WaitForCancellationFutureOwned>>,
    write_ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<T> Connection<T> {
    /// For reaching the stream from elsewhere while the connection is open.
    pub(crate) fn slot(&self) -> Weak<Slot<T>> {
        Arc::downgrade(&self.slot)
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        // Someone may be upgrading the weak reference right now: the stream is closed here all the
        // same.
        let stream = self.slot.lock().take();
        drop(stream);
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the serial port was closed")
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.slot.with(|stream| Pin::new(stream).poll_read(cx, buf)) {
            Some(Poll::Ready(done)) => Poll::Ready(done),
            Some(Poll::Pending) => self.read_ended.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.slot.with(|stream| Pin::new(stream).poll_write(cx, bytes)) {
            Some(Poll::Ready(done)) => Poll::Ready(done),
            Some(Poll::Pending) => self.write_ended.as_mut().poll(cx).map(|()| Err(ended())),
            None => Poll::Ready(Err(ended())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.slot.with(|stream| Pin::new(stream).poll_flush(cx)) {
            Some(Poll::Ready(done)) => Poll::Ready(done),
            Some(Poll::Pending) => self.write_ended.as_mut().poll(cx).map(|()| Err(ended())),
            None => Poll::Ready(Err(ended())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.slot.with(|stream| Pin::new(stream).poll_shutdown(cx)).unwrap_or(Poll::Ready(Ok(())))
    }
}
