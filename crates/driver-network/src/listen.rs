//! Listeners of forwards: TCP, UDP, and Unix sockets that only their owner can use and that are
//! removed at the end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::select_all;
use jumpstarter_driver_core::{Channel, Error, ErrorKind, Result, ResultExt, blocking, keep_alive};
use jumpstarter_files::SocketFile;
use tokio::net::{TcpListener, TcpSocket, UdpSocket, UnixListener};

use crate::endpoint;
use crate::local_socket::LocalSocket;

/// How long finding the addresses of a host may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often other free ports are tried where one is wanted that is free for several addresses.
const FREE_PORTS: usize = 16;

/// Connections that may wait to be accepted; the kernel resets some of a burst of more. With the
/// usual 128 a thousand connections at once lose a few.
const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub(crate) enum Listener {
    /// One for each address of the host.
    Tcp(Vec<TcpListener>),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<Channel> {
        match self {
            Self::Tcp(listeners) => {
                let accepting = listeners.iter().map(|listener| Box::pin(listener.accept()));
                let (accepted, _, _) = select_all(accepting).await;
                let (stream, _) = accepted?;
                keep_alive(&stream)?;
                Ok(Channel::from_io(LocalSocket::new(stream)))
            }
            Self::Unix(listener) => {
                let (reader, writer) = listener.accept().await?.0.into_split();
                Ok(Channel::from_split(reader, writer))
            }
        }
    }
}

/// Listens on TCP at `address`, a host or IP address and a port, and answers with where: at each
/// address of the host that this machine has, with one port. It is named by the first of IPv4.
pub(crate) async fn tcp(address: &str) -> Result<(Listener, SocketAddr)> {
    let (listeners, first) = bind::<TcpListener>(address).await?;
    Ok((Listener::Tcp(listeners), first))
}

/// As [`tcp`], for UDP.
pub(crate) async fn udp(address: &str) -> Result<(Vec<UdpSocket>, SocketAddr)> {
    bind::<UdpSocket>(address).await
}

/// What is bound to a local address.
trait Local: Sized {
    const PROTOCOL: &'static str;
    /// The option of `ss` that lists them.
    const LISTED: char;
    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;
    fn address(&self) -> io::Result<SocketAddr>;
}

impl Local for TcpListener {
    const PROTOCOL: &'static str = "TCP";
    const LISTED: char = 't';

    async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Local for UdpSocket {
    const PROTOCOL: &'static str = "UDP";
    const LISTED: char = 'u';

    async fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address).await
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

async fn bind<L: Local>(address: &str) -> Result<(Vec<L>, SocketAddr)> {
    let doing = || format!("listening on {} {address}", L::PROTOCOL);
    let (host, port) = parts(address).with_context(doing)?;
    let found = endpoint::lookup(host, port, RESOLVE_TIMEOUT).await;
    let mut addresses = found.map_err(|error| {
        let error = Error::unavailable(format!("no address is known for the host `{host}`"))
            .with_source(error);
        error
            .with_hint("use an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0")
            .context(doing())
    })?;
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let bound = all(&addresses).await;
    let bound: Vec<L> =
        bound.map_err(|error| refused(L::LISTED, host, port, error).context(doing()))?;
    let first = bound.first().map(Local::address);
    match first {
        Some(first) => Ok((bound, first.with_context(doing)?)),
        None => {
            Err(Error::unavailable(format!("the host `{host}` has no address")).context(doing()))
        }
    }
}

/// The host, without the brackets of an IPv6 address, and the port.
fn parts(address: &str) -> Result<(&str, u16)> {
    let wrong = || {
        Error::invalid_argument(format!("`{address}` is not a host and a port"))
            .with_hint("write it as 127.0.0.1:8080, localhost:0 or [::1]:8080")
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_wrong =
        bare.is_empty() || (bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err());
    let port = port.parse().map_err(|_| wrong())?;
    if is_wrong { Err(wrong()) } else { Ok((bare, port)) }
}

/// Listens at each of the addresses that this machine has, with one port.
async fn all<L: Local>(addresses: &[SocketAddr]) -> io::Result<Vec<L>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match at_one_port(addresses).await {
            // Free for one address is not free for all.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && addresses.iter().all(|address| address.port() == 0)
                    && attempt < FREE_PORTS => {}
            bound => return bound,
        }
    }
}

async fn at_one_port<L: Local>(addresses: &[SocketAddr]) -> io::Result<Vec<L>> {
    let mut bound: Vec<L> = Vec::new();
    let mut missing = None;
    for address in addresses {
        let mut address = *address;
        if let Some(first) = bound.first() {
            address.set_port(first.address()?.port());
        }
        match L::bind(address).await {
            Ok(one) => bound.push(one),
            // A machine without IPv6, whose table of hosts has it all the same.
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// The error of a host and port that this program cannot have.
fn refused(listed: char, host: &str, port: u16, error: io::Error) -> Error {
    let (message, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("port {port} of {host} is taken by another program"),
            format!(
                "choose another port, or 0 for a free one; `ss -l{listed}np 'sport = :{port}'` names the program"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on port {port}"),
            "choose a port from 1024 on, or 0 for a free one".to_owned(),
        ),
        _ if is_missing(&error) => (
            format!("this machine does not have the address {host}"),
            "use one that it has, such as 127.0.0.1, ::1 or 0.0.0.0".to_owned(),
        ),
        _ => return Error::from(error),
    };
    Error::from(error).context(message).with_hint(hint)
}

/// Listens on a Unix socket at `path` with mode 0600. One that is left over from a program that has
/// ended is replaced.
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
