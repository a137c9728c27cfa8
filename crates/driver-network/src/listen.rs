//! Listeners of forwards: TCP, and Unix sockets that only their owner can use and that are removed at the end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{Channel, Error, ErrorKind, Result, ResultExt};
use rustix::fs::{Mode, fchmod};
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};

use crate::local_socket::LocalSocket;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

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
    remove_stale(path).await.with_context(doing)?;
    let bind = || -> io::Result<(UnixListener, SocketFile)> {
        let socket = UnixSocket::new_stream()?;
        // On Linux the file gets the mode of the socket, so it is private from its first moment. Elsewhere this
        // may be refused, and the mode is set below.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).ok();
        socket.bind(path)?;
        let file = SocketFile::of(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok((socket.listen(BACKLOG)?, file))
    };
    let (listener, file) = bind().with_context(doing)?;
    Ok((Listener::Unix(listener), file))
}

async fn remove_stale(path: &Path) -> Result<()> {
    let exists =
        |what: &str| Err(Error::new(ErrorKind::AlreadyExists, what).with_hint("choose another path"));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(metadata) if !metadata.file_type().is_socket() => exists("there is a file that is not a socket"),
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).context("removing the socket of a program that has ended")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) | Err(_) => exists("another program listens there"),
        },
    }
}

/// The file of a Unix socket; dropping removes it, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Nothing can be done about one that cannot be removed; the next forward takes it for stale.
            std::fs::remove_file(&self.path).ok();
        }
    }
}
