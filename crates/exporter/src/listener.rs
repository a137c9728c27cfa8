//! Where clients connect: Unix sockets that only their owner may use, and TCP.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, blocking};
use jumpstarter_files::{SocketFile, SocketPlace};
use jumpstarter_protocol::UnixSocket;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A connection on which nothing came for so long is probed, in such intervals, and closed after so many without answer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// One on which something was sent is closed when it was not acknowledged for so long.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_LIMIT_MILLISECONDS: u32 = 90_000;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`, an IPv6 host in brackets; port 0 takes a free one.
    Tcp(String),
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `[HOST:]PORT`; without a host every interface is listened at.
    fn from_str(text: &str) -> Result<Self> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        match port.parse::<u16>() {
            Ok(port) if !host.contains(':') || host.starts_with('[') => {
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            _ => Err(Error::invalid_argument(format!("`{text}` is not [HOST:]PORT"))
                .with_hint("as 1234, localhost:1234 or [::1]:1234")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A bound address. Dropping it closes it and removes its socket file.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: Socket,
    address: Address,
    file: Option<SocketFile>,
}

#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A connection of either kind.
pub(crate) enum Accepted {
    Unix(UnixSocket),
    Tcp(TcpStream, IpAddr),
}

impl Listener {
    /// Starts to listen. A socket file that a dead exporter left is replaced. Cancelling leaves nothing.
    ///
    /// # Errors
    /// `AlreadyExists` where something else is: another exporter, or another file. As the system's otherwise.
    pub async fn bind(address: &Address) -> Result<Self> {
        let doing = || format!("listening at {address}");
        match address {
            Address::Tcp(text) => {
                let listener = TcpListener::bind(text).await.with_context(doing)?;
                let bound = Address::Tcp(listener.local_addr().with_context(doing)?.to_string());
                Ok(Self { socket: Socket::Tcp(listener), address: bound, file: None })
            }
            Address::Unix(path) => {
                let at = path.clone();
                let listening = blocking(move || Ok(SocketFile::listen(&at)?)).await.map_err(|error| {
                    let is_taken = error.kind() == ErrorKind::AlreadyExists;
                    let error = error.context(doing());
                    if is_taken {
                        error.with_hint("stop that program, or choose another path")
                    } else {
                        error
                    }
                });
                let (listener, file) = listening?;
                let listener = UnixListener::from_std(listener).with_context(doing)?;
                Ok(Self { socket: Socket::Unix(listener), address: address.clone(), file: Some(file) })
            }
        }
    }

    /// Where it listens: a port of 0 is filled in.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where its socket is, for a Unix socket.
    pub(crate) fn place(&self) -> Option<&SocketPlace> {
        self.file.as_ref().map(SocketFile::place)
    }

    pub(crate) async fn accept(&self) -> std::io::Result<Accepted> {
        match &self.socket {
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                UnixSocket::new(stream).map(Accepted::Unix)
            }
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                if let Err(error) = prepare(&stream) {
                    // It has been reset already: reading from it will tell.
                    tracing::debug!(%error, "a connection's options could not be set");
                }
                Ok(Accepted::Tcp(stream, address.ip()))
            }
        }
    }
}

/// Small answers leave at once, and a peer that has vanished (its power, its network) is noticed within a minute or two.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_LIMIT_MILLISECONDS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_socket_is_private_unique_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exporter.sock");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = Listener::bind(&address).await.unwrap_err();
        assert_eq!(second.kind(), ErrorKind::AlreadyExists, "{second:?}");
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_dead_exporter_left_is_replaced_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exporter.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        drop(UnixStream::connect(&path).await.unwrap());
        drop(listener);
        std::fs::write(&path, "mine").unwrap();
        Listener::bind(&Address::Unix(path.clone())).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn vanished_peers_are_noticed() {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".to_owned())).await.unwrap();
        let Address::Tcp(address) = listener.address() else { unreachable!("it was bound to TCP") };
        let (accepted, client) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (Ok(Accepted::Tcp(stream, peer)), Ok(_client)) = (accepted, client) else {
            panic!("not connected")
        };
        assert!(peer.is_loopback() && stream.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_IDLE);
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED_LIMIT_MILLISECONDS);
    }

    #[test]
    fn addresses() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(read("1234").unwrap(), "tcp://0.0.0.0:1234");
        assert_eq!(read("[::1]:0").unwrap(), "tcp://[::1]:0");
        assert_eq!(read("lab:99").unwrap(), "tcp://lab:99");
        for wrong in ["", "lab", "lab:", "::1:80", "lab:99999"] {
            assert_eq!(read(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
