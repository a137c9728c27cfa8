//! Listeners of forwards: TCP, and Unix sockets that only their owner can use and that are removed at the end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use jumpstarter_driver_core::{Channel, Error, ErrorKind, Result, ResultExt, blocking};
use jumpstarter_files::SocketFile;
use tokio::net::{TcpListener, UnixListener};

use crate::local_socket::LocalSocket;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<Channel> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Channel::from_io(LocalSocket::new(stream)))
            }
            Self::Unix(listener) => {
                let (reader, writer) = listener.accept().await?.0.into_split();
                Ok(Channel::from_split(reader, writer))
            }
        }
    }
}

/// Listens on `address`, a host or IP address and a port.
pub(crate) async fn tcp(address: &str) -> Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind(address).await;
    let bound =
        listener.and_then(|listener| listener.local_addr().map(|address| (Listener::Tcp(listener), address)));
    bound.map_err(|error| {
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let error = Error::from(error);
        let error = if in_use { error.with_hint("choose another port, or 0 for a free one") } else { error };
        error.context(format!("listening on TCP {address}"))
    })
}

/// Listens on a Unix socket at `path` with mode 0600. One that is left over from a program that has ended is replaced.
pub(crate) async fn unix(path: &Path) -> Result<(Listener, SocketFile)> {
    let doing = || format!("listening on Unix socket {}", path.display());
    let at = path.to_owned();
    let listening = blocking(move || Ok(SocketFile::listen(&at)?)).await.map_err(|error| {
        let is_taken = error.kind() == ErrorKind::AlreadyExists;
        let error = error.context(doing());
        if is_taken { error.with_hint("choose another path") } else { error }
    });
    let (listener, file) = listening?;
    Ok((Listener::Unix(UnixListener::from_std(listener).with_context(doing)?), file))
}
