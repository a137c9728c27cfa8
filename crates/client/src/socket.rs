//! The bytes under HTTP/2: a socket of either kind, with what is remembered to explain a failed start.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::Address;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens the socket.
///
/// # Errors
/// As the system's, with what to do about it.
pub(crate) async fn open(address: &Address) -> Result<Box<dyn Io>> {
    match address {
        Address::Unix(path) => {
            // A file that is no socket refuses connections as a dead exporter's socket does.
            if let Ok(metadata) = std::fs::metadata(path)
                && !metadata.file_type().is_socket()
            {
                return Err(Error::invalid_argument(format!("{} is not a socket", path.display()))
                    .with_hint(
                        "name the socket that the exporter listens at: JUMPSTARTER_HOST inside `jmp shell`",
                    ));
            }
            let stream = UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(|error| unix_error(address, &error))?))
        }
        Address::Tcp { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            let addresses: Vec<_> = found.map_err(|error| unknown_host(host, error))?.collect();
            let stream = TcpStream::connect(addresses.as_slice()).await;
            let stream = stream.map_err(|error| tcp_error(address, error))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

fn unix_error(address: &Address, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("there is no socket {address}"))
            .with_hint("is the exporter running? it makes the socket when it starts"),
        io::ErrorKind::ConnectionRefused => {
            Error::unavailable(format!("nobody listens at the socket {address}"))
                .with_hint("its exporter has ended: start it again")
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, format!("the socket {address} is not open to you"))
                .with_hint("a socket is for the user who runs its exporter")
        }
        kind => {
            Error::new(Error::from(io::Error::from(kind)).kind(), format!("connecting to {address}: {error}"))
        }
    }
}

fn unknown_host(host: &str, error: io::Error) -> Error {
    Error::unavailable(format!("the host `{host}` is not known"))
        .with_source(error)
        .with_hint("check the name")
}

fn tcp_error(address: &Address, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::unavailable(format!("nobody listens at {address}"))
            .with_hint("check host and port, and that the exporter is running"),
        _ => Error::from(error).context(format!("connecting to {address}")),
    }
}

/// How a connection began: what the other side said first.
#[derive(Debug, Default)]
pub(crate) struct Beginning(OnceLock<Vec<u8>>);

impl Beginning {
    /// The first bytes, if any came.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// A connection that notes its first bytes. Until some came, it takes what is written even when the other side is gone:
/// reading then tells why, such as that a certificate was missing.
pub(crate) struct Noting<T> {
    inner: T,
    beginning: Arc<Beginning>,
}

impl<T> Noting<T> {
    pub(crate) fn new(inner: T) -> (Self, Arc<Beginning>) {
        let beginning = Arc::new(Beginning::default());
        (Self { inner, beginning: beginning.clone() }, beginning)
    }

    fn unless_silent<V>(&self, outcome: Poll<io::Result<V>>, taken: V) -> Poll<io::Result<V>> {
        match outcome {
            Poll::Ready(Err(_)) if self.beginning.0.get().is_none() => Poll::Ready(Ok(taken)),
            outcome => outcome,
        }
    }
}

impl<T: Io> AsyncRead for Noting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.beginning.0.get().is_none() {
            let read = &buffer.filled()[before..];
            if !read.is_empty() {
                self.beginning.0.get_or_init(|| read[..read.len().min(32)].to_vec());
            }
        }
        outcome
    }
}

impl<T: Io> AsyncWrite for Noting<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, data);
        self.unless_silent(outcome, data.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.unless_silent(outcome, pieces.iter().map(|piece| piece.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.unless_silent(outcome, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
