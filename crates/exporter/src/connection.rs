//! One accepted connection: who is at its other end, how long it may take to speak HTTP/2, and how it is cut off.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::transport::server::Connected;

use crate::authority::AuthorityAdapter;

/// A connection that has not begun to speak HTTP/2 by then is closed.
pub(crate) const OPENING_LIMIT: Duration = Duration::from_secs(10);

/// What carries a connection: a socket, or TLS over one.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Who is at the other end. Every request finds it in its extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// None on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    pub(crate) standing: Arc<Standing>,
}

/// What is remembered of a connection over its calls.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// It gave the right passphrase once.
    pub(crate) trusted: AtomicBool,
    /// Its resources that wait for their calls.
    pub(crate) waiting_resources: AtomicUsize,
}

/// A connection as the HTTP/2 server uses it.
pub(crate) struct Connection {
    inner: AuthorityAdapter<Box<dyn Transport>>,
    peer: Peer,
    /// Done when the connection is to be cut off, whatever runs on it.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The end of the client's time to begin, until it has.
    opening: Option<Pin<Box<Sleep>>>,
    _open: TaskTrackerToken,
}

impl Connection {
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        peer: Peer,
        cut: CancellationToken,
        open: TaskTrackerToken,
    ) -> Self {
        Self {
            inner: AuthorityAdapter::new(transport),
            peer,
            cut: Box::pin(cut.cancelled_owned()),
            opening: Some(Box::pin(tokio::time::sleep(OPENING_LIMIT))),
            _open: open,
        }
    }

    /// Reading and writing both watch for the cut: a peer that takes nothing blocks the server in writing.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.opening.is_some() && self.inner.has_begun() {
            self.opening = None;
        }
        if let Some(limit) = &mut self.opening
            && read.is_pending()
            && limit.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client said nothing")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
