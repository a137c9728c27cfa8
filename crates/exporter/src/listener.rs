//! Where clients connect: Unix sockets that only their owner may use, and TCP.

use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::task::Poll;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_protocol::UnixSocket;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use crate::kept_socket::{KeptListener, SocketKeeper};

/// A connection on which nothing came for so long is probed, in such intervals, and closed after so
/// many without answer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// One on which something was sent is closed when it was not acknowledged for so long.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_LIMIT_MILLISECONDS: u32 = 90_000;

/// Ports that are tried where one has to be free at several addresses.
const PORTS_TRIED: usize = 20;

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
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Unix(KeptListener),
    /// One for each address of a name.
    Tcp(Vec<TcpListener>),
}

/// A connection of either kind.
pub(crate) enum Accepted {
    Unix(UnixSocket),
    Tcp(TcpStream, IpAddr),
}

impl Listener {
    /// Starts to listen. A socket file that a dead exporter left is replaced. Cancelling leaves
    /// nothing.
    ///
    /// # Errors
    /// `AlreadyExists` where something else is: another exporter, or another file. As the system's
    /// otherwise.
    pub async fn bind(address: &Address) -> Result<Self> {
        let doing = || format!("listening at {address}");
        match address {
            Address::Tcp(text) => {
                let addresses = tokio::net::lookup_host(text).await.with_context(doing)?.collect();
                let listeners = bind_all(addresses).await.with_context(doing)?;
                let bound = listeners[0].local_addr().with_context(doing)?;
                let address = match (listeners.len(), text.rsplit_once(':')) {
                    (2.., Some((host, _))) => format!("{host}:{}", bound.port()),
                    _ => bound.to_string(),
                };
                Ok(Self { socket: Socket::Tcp(listeners), address: Address::Tcp(address) })
            }
            Address::Unix(path) => {
                let socket = Socket::Unix(KeptListener::bind(path).await?);
                Ok(Self { socket, address: address.clone() })
            }
        }
    }

    /// Where it listens: a port of 0 is filled in.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What looks after its socket, for a Unix socket. [`serve`](crate::serve()) does so each
    /// second.
    pub fn keeper(&self) -> Option<SocketKeeper> {
        match &self.socket {
            Socket::Unix(listener) => Some(listener.keeper()),
            Socket::Tcp(_) => None,
        }
    }

    pub(crate) async fn accept(&mut self) -> std::io::Result<Accepted> {
        match &mut self.socket {
            Socket::Unix(listener) => UnixSocket::new(listener.accept().await?).map(Accepted::Unix),
            Socket::Tcp(listeners) => {
                let accepted = poll_fn(|cx| {
                    let ready =
                        listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
                            Poll::Ready(accepted) => Some(accepted),
                            Poll::Pending => None,
                        });
                    ready.map_or(Poll::Pending, Poll::Ready)
                });
                let (stream, address) = accepted.await?;
                if let Err(error) = prepare(&stream) {
                    // It has been reset already: reading from it will tell.
                    tracing::debug!(%error, "a connection's options could not be set");
                }
                Ok(Accepted::Tcp(stream, address.ip()))
            }
        }
    }
}

/// Binds all addresses of a name, such as both of `localhost`, with one port. A family that this
/// system lacks is left out.
async fn bind_all(addresses: Vec<SocketAddr>) -> std::io::Result<Vec<TcpListener>> {
    let mut left = PORTS_TRIED;
    loop {
        match bind_once(&addresses).await {
            // The free port of one address was taken at another.
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && addresses.len() > 1
                    && addresses.iter().all(|address| address.port() == 0)
                    && left > 1 =>
            {
                left -= 1;
            }
            bound => return bound,
        }
    }
}

async fn bind_once(addresses: &[SocketAddr]) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::<TcpListener>::new();
    let mut failure = None;
    for mut address in addresses.iter().copied() {
        if let Some(first) = listeners.first().filter(|_| address.port() == 0) {
            address.set_port(first.local_addr()?.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    match (listeners.is_empty(), failure) {
        (true, failure) => {
            Err(failure.unwrap_or_else(|| std::io::Error::other("the name has no address")))
        }
        (false, _) => Ok(listeners),
    }
}

/// Small answers leave at once, and a peer that has vanished (its power, its network) is noticed
/// within a minute or two.
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
    use jumpstarter_driver_core::ErrorKind;
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
        let mut listener = Listener::bind(&Address::Tcp("127.0.0.1:0".to_owned())).await.unwrap();
        let Address::Tcp(address) = listener.address().clone() else {
            unreachable!("it was bound to TCP")
        };
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

    #[tokio::test]
    async fn a_name_with_two_addresses_is_listened_at_on_both() {
        let both = ["[::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap()).to_vec();
        let listeners = bind_all(both.clone()).await.unwrap();
        let port = listeners[1].local_addr().unwrap().port();
        assert_eq!(listeners[0].local_addr().unwrap().port(), port);
        let mut listener = Listener {
            socket: Socket::Tcp(listeners),
            address: Address::Tcp(format!("localhost:{port}")),
        };
        for host in ["[::1]", "127.0.0.1", "[::1]"] {
            let connecting = TcpStream::connect(format!("{host}:{port}"));
            let (accepted, client) = tokio::join!(listener.accept(), connecting);
            client.unwrap();
            let Ok(Accepted::Tcp(_, from)) = accepted else { panic!("{host}") };
            assert_eq!(from.is_ipv6(), host == "[::1]");
        }
        // One of them is taken: clients would reach somebody else there.
        let taken = both.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        assert_eq!(bind_all(taken).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        // A family that is not there is left out.
        let lacking =
            ["[2001:db8::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(bind_all(lacking).await.unwrap().len(), 1);
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
