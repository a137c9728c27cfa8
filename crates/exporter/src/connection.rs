//! One accepted connection: who is at its other end, how long it may take to speak HTTP/2, and the calls on it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::authority::AuthorityAdapter;
use crate::clients::Membership;
use crate::passphrase::Passphrase;
use crate::{Session, grpc};

/// A connection that has not begun to speak HTTP/2 by then is closed.
pub(crate) const OPENING_LIMIT: Duration = Duration::from_secs(10);
/// Streams at a time on one connection; a client waits with more.
const MAX_STREAMS: u32 = 1024;
/// What a client may send on one stream before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// What it may send on all of them: enough for each, and some more, so that no number of streams that nobody reads
/// holds up a call.
const CONNECTION_WINDOW: u32 = (MAX_STREAMS + 1) * STREAM_WINDOW;
/// The largest HTTP/2 frame that is accepted: payloads arrive in one piece.
const MAX_FRAME: u32 = 256 * 1024;
/// What one stream holds while its client is slow to read.
const SEND_BUFFER: usize = 512 * 1024;
/// Streams that are remembered for a while after they were answered before their client had sent everything: what is still
/// on its way for them is passed over.
const REMEMBERED_STREAMS: usize = MAX_STREAMS as usize;
/// What comes for streams that are not remembered any more is answered with a reset; a client that brings about so many in the
/// life of its connection loses it. (The library's own bound is soon reached by calls that are refused; without one, a
/// client that reads nothing could pile the resets up.)
const MAX_STRAYS: usize = 64 * 1024;
/// Of all headers of one call.
const MAX_HEADERS: u32 = 16 * 1024;

/// What carries a connection: a socket, or TLS over one.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// None on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// It came through the socket that only this exporter's hooks know.
    pub(crate) is_hook: bool,
    pub(crate) standing: Arc<Standing>,
}

impl Peer {
    /// A call of this peer was admitted.
    pub(crate) fn admit(&self, session: &Session) {
        self.standing.membership.admit(&session.0.clients, self.is_hook, self.address);
    }
}

/// What is remembered of a connection over its calls.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether a call was admitted.
    pub(crate) membership: Membership,
    /// Its resources that wait for their calls.
    pub(crate) waiting_resources: AtomicUsize,
}

/// Ends a connection's membership when its serving ends, however it ends.
struct Open(Arc<Standing>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.membership.close();
    }
}

/// Serves a connection until its client ends it, or, after `stop`, until its calls have ended. Dropping the future cuts it
/// off, with the calls on it.
pub(crate) async fn serve(
    session: Session,
    passphrase: Passphrase,
    transport: Box<dyn Transport>,
    peer: Peer,
    stop: CancellationToken,
) {
    let _open = Open(peer.standing.clone());
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        // Clients may give up as many calls at once as they may make.
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_concurrent_reset_streams(REMEMBERED_STREAMS)
        .max_local_error_reset_streams(Some(MAX_STRAYS))
        .max_header_list_size(MAX_HEADERS);
    let handshake = builder.handshake::<_, Bytes>(Opening::new(transport));
    let opened = tokio::select! {
        opened = handshake => opened,
        () = stop.cancelled() => return,
    };
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a client does not speak HTTP/2");
            return;
        }
    };
    let mut stopping = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let call = grpc::answer(session.clone(), passphrase.clone(), peer.clone(), request, respond);
                    session.0.connections.spawn(call);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection broke");
                    return;
                }
                None => return,
            },
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// A connection as HTTP/2 reads and writes it, which fails where the client takes too long to begin.
struct Opening {
    inner: AuthorityAdapter<Box<dyn Transport>>,
    /// The end of the client's time to begin, until it has.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Opening {
    fn new(transport: Box<dyn Transport>) -> Self {
        let limit = Some(Box::pin(tokio::time::sleep(OPENING_LIMIT)));
        Self { inner: AuthorityAdapter::new(transport), limit }
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.limit.is_some() && self.inner.has_begun() {
            self.limit = None;
        }
        if let Some(limit) = &mut self.limit
            && read.is_pending()
            && limit.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client said nothing")));
        }
        read
    }
}

impl AsyncWrite for Opening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
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
