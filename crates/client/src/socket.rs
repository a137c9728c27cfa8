//! The bytes under HTTP/2: a socket of either kind, with a record that explains a failed start.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, connect_first};
use jumpstarter_protocol::{TcpKeepalive, Transport, UnixSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::Address;
use crate::tls::TlsFailure;

/// Opens the socket. On TCP the system then notices a lost machine within about `keepalive`.
///
/// # Errors
/// The system's errors, with a hint.
pub(crate) async fn open(address: &Address, keepalive: Duration) -> Result<Box<dyn Transport>> {
    match address {
        Address::Unix(path) => {
            // A file that is not a socket refuses connections like a dead exporter's socket.
            if let Ok(metadata) = std::fs::metadata(path)
                && !metadata.file_type().is_socket()
            {
                return Err(Error::invalid_argument(format!("{} is not a socket", path.display()))
                    .with_hint(
                        "name the socket that the exporter listens at: JUMPSTARTER_HOST inside `jmp shell`",
                    ));
            }
            let stream = UnixStream::connect(path).await.and_then(UnixSocket::new);
            Ok(Box::new(stream.map_err(|error| unix_error(address, &error))?))
        }
        Address::Tcp { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            let addresses: Vec<_> = found.map_err(|error| unknown_host(host, error))?.collect();
            let connected = connect_first(&addresses, None).await;
            let stream = connected.map_err(|error| tcp_error(address, error.into()))?;
            TcpKeepalive::within(keepalive).apply(&stream)?;
            Ok(Box::new(stream))
        }
    }
}

fn unix_error(address: &Address, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("there is no socket {address}"))
            .with_hint("start the exporter: it creates the socket"),
        io::ErrorKind::ConnectionRefused => {
            Error::unavailable(format!("nothing listens at the socket {address}"))
                .with_hint("its exporter has ended: start it again")
        }
        io::ErrorKind::PermissionDenied => {
            Error::permission_denied(format!("the socket {address} is not open to you")).with_hint(
                "run this as the user of the exporter: only that user can connect to its socket",
            )
        }
        kind => Error::new(
            Error::from(io::Error::from(kind)).kind(),
            format!("connecting to {address}: {error}"),
        ),
    }
}

fn unknown_host(host: &str, error: io::Error) -> Error {
    Error::unavailable(format!("the host `{host}` is not known"))
        .with_source(error)
        .with_hint("check the name")
}

fn tcp_error(address: &Address, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Error::unavailable(format!("nothing listens at {address}"))
                .with_hint("check host and port, and that the exporter is running")
        }
        _ => Error::from(error).context(format!("connecting to {address}")),
    }
}

/// The traffic of a connection: how it began, and whether the other side is alive.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    beginning: OnceLock<Vec<u8>>,
    /// The TLS failure after the handshake. (The error that is passed on keeps only its text.)
    tls_failure: OnceLock<TlsFailure>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// The number of bytes sent before the last receipt.
    sent_before_bytes: AtomicU64,
    writing: AtomicBool,
}

impl Traffic {
    /// The first received bytes, if any.
    pub(crate) fn beginning(&self) -> &[u8] {
        self.beginning.get().map_or(&[], Vec::as_slice)
    }

    /// The TLS failure of either side after the handshake.
    pub(crate) fn tls_failure(&self) -> Option<&TlsFailure> {
        self.tls_failure.get()
    }

    /// The number of received bytes.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// The number of bytes sent since the last receipt.
    pub(crate) fn unanswered_bytes(&self) -> u64 {
        let before = self.sent_before_bytes.load(Ordering::Relaxed);
        self.sent_bytes.load(Ordering::Relaxed).saturating_sub(before)
    }

    /// Whether the system's send buffer is full.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    fn received(&self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.beginning.get_or_init(|| data[..data.len().min(32)].to_vec());
        self.received_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.sent_before_bytes.store(self.sent_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A connection that records its traffic. Before the first receipt it accepts writes even if the
/// other side has closed: reading then returns the reason, such as a missing certificate.
pub(crate) struct Noting<T> {
    inner: T,
    traffic: Arc<Traffic>,
}

impl<T> Noting<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, traffic: Arc::default() }
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Records the outcome of a write.
    fn written<V>(&self, outcome: Poll<io::Result<V>>, taken: V) -> Poll<io::Result<V>> {
        self.traffic.writing.store(outcome.is_pending(), Ordering::Relaxed);
        match outcome {
            Poll::Ready(Err(_)) if self.traffic.beginning.get().is_none() => Poll::Ready(Ok(taken)),
            outcome => outcome,
        }
    }

    fn sent(&self, outcome: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.traffic.sent_bytes.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<T: Transport> AsyncRead for Noting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.traffic.received(&buffer.filled()[before..]);
        if let Poll::Ready(Err(error)) = &outcome
            && let Some(failure) = TlsFailure::find(error)
        {
            self.traffic.tls_failure.get_or_init(|| failure);
        }
        outcome
    }
}

impl<T: Transport> AsyncWrite for Noting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, data);
        self.sent(&outcome);
        self.written(outcome, data.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.sent(&outcome);
        self.written(outcome, pieces.iter().map(|piece| piece.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(outcome, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
