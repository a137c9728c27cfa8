//! The addresses at which clients connect: Unix sockets that only their owner can use, and TCP.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use jumpstarter_driver_core::{Result, ResultExt};
use jumpstarter_protocol::{Address, TcpKeepalive, UnixSocket};
use tokio::net::{TcpListener, TcpStream};

use crate::kept_socket::{KeptListener, SocketKeeper};

/// The number of ports to try if one must be free at several addresses.
const PORTS_TRIED: usize = 20;

/// A bound address. Dropping it closes it and removes its socket file.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Unix(KeptListener),
    /// One listener for each address of a name.
    Tcp(Vec<TcpListener>),
}

/// A connection of either kind.
pub(crate) enum Accepted {
    Unix(UnixSocket),
    Tcp(TcpStream, IpAddr),
}

impl Listener {
    /// Starts to listen. Replaces the socket file of a dead exporter. Cancelling leaves nothing
    /// behind.
    ///
    /// # Errors
    /// `AlreadyExists` if another exporter or another file has the path; else the system's errors.
    pub async fn bind(address: &Address) -> Result<Self> {
        let doing = || format!("listening at {}", address.url());
        match address {
            Address::Tcp { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await;
                let addresses = found.with_context(doing)?.collect();
                let listeners = bind_all(addresses).await.with_context(doing)?;
                let bound = listeners[0].local_addr().with_context(doing)?;
                let host = match listeners.len() {
                    2.. => host.clone(),
                    _ => bound.ip().to_string(),
                };
                let address = Address::Tcp { host, port: bound.port() };
                Ok(Self { socket: Socket::Tcp(listeners), address })
            }
            Address::Unix(path) => {
                let socket = Socket::Unix(KeptListener::bind(path).await?);
                Ok(Self { socket, address: address.clone() })
            }
        }
    }

    /// The address; a port of 0 is replaced by the actual one.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The keeper of a Unix socket. [`serve`](crate::serve()) checks it each second.
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
                if let Err(error) = TcpKeepalive::EXPORTER.apply(&stream) {
                    // The connection was reset already; reading from it reports that.
                    tracing::debug!(%error, "a connection's options could not be set");
                }
                Ok(Accepted::Tcp(stream, address.ip()))
            }
        }
    }
}

/// Binds all addresses of a name, such as both of `localhost`, with one port. A family that this
/// system lacks is omitted.
async fn bind_all(addresses: Vec<SocketAddr>) -> std::io::Result<Vec<TcpListener>> {
    let mut left = PORTS_TRIED;
    loop {
        match bind_once(&addresses).await {
            // The free port of one address is in use at another.
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
        jumpstarter_files::finish_removals(std::time::Duration::from_secs(60));
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
        jumpstarter_files::finish_removals(std::time::Duration::from_secs(60));
        std::fs::write(&path, "mine").unwrap();
        Listener::bind(&Address::Unix(path.clone())).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn vanished_peers_are_noticed() {
        let mut listener =
            Listener::bind(&Address::to_listen_at("127.0.0.1:0").unwrap()).await.unwrap();
        let address = listener.address().to_string();
        let (accepted, client) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (Ok(Accepted::Tcp(stream, peer)), Ok(_client)) = (accepted, client) else {
            panic!("not connected")
        };
        assert!(peer.is_loopback() && stream.nodelay().unwrap());
        assert!(rustix::net::sockopt::socket_keepalive(&stream).unwrap());
        let idle = rustix::net::sockopt::tcp_keepidle(&stream).unwrap();
        assert_eq!(idle, TcpKeepalive::EXPORTER.idle);
    }

    #[tokio::test]
    async fn a_name_with_two_addresses_is_listened_at_on_both() {
        let both = ["[::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap()).to_vec();
        let listeners = bind_all(both.clone()).await.unwrap();
        let port = listeners[1].local_addr().unwrap().port();
        assert_eq!(listeners[0].local_addr().unwrap().port(), port);
        let mut listener = Listener {
            socket: Socket::Tcp(listeners),
            address: Address::Tcp { host: "localhost".to_owned(), port },
        };
        for host in ["[::1]", "127.0.0.1", "[::1]"] {
            let connecting = TcpStream::connect(format!("{host}:{port}"));
            let (accepted, client) = tokio::join!(listener.accept(), connecting);
            client.unwrap();
            let Ok(Accepted::Tcp(_, from)) = accepted else { panic!("{host}") };
            assert_eq!(from.is_ipv6(), host == "[::1]");
        }
        // One of them is in use: clients would reach another program there.
        let taken = both.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        assert_eq!(bind_all(taken).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        // A missing family is omitted.
        let lacking =
            ["[2001:db8::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(bind_all(lacking).await.unwrap().len(), 1);
    }
}
