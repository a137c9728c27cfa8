//! A host and a port: to addresses, and to a TCP connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// How long connecting may take unless configured.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an address may take to answer until the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How long a TCP connection is silent until its peer is asked whether it still exists.
const SILENCE: Duration = Duration::from_secs(60);
/// How often, and how many times, a peer is asked that does not answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// The default of `connect_timeout`.
pub(crate) fn connect_timeout() -> Span {
    Span::from(CONNECT_TIMEOUT)
}

/// The default of `enable_address`.
pub(crate) fn yes() -> bool {
    true
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What the drivers of endpoints on the network share: where it is, and whether clients may know.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether clients may ask for the address.
    pub(crate) shows_address: bool,
}

impl Endpoint {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, shows_address: true }
    }

    /// Its addresses, never none.
    ///
    /// # Errors
    /// `Unavailable`: the name has no address, or the resolver does not answer within `limit`.
    pub(crate) async fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>> {
        let doing = || format!("resolving host `{}`", self.host);
        let lookup = tokio::net::lookup_host((self.bare_host(), self.port));
        let found = tokio::time::timeout(limit, lookup).await;
        let found = found.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer"))
        });
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| {
                Error::unavailable(doing())
                    .with_source(error)
                    .with_hint("check the host in this driver's configuration")
            })?
            .collect();
        match addresses.is_empty() {
            true => Err(Error::unavailable("the name has no address").context(doing())),
            false => Ok(addresses),
        }
    }

    /// The host without the brackets in which people write IPv6 addresses next to ports.
    pub(crate) fn bare_host(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    /// Its first address as clients see it: `tcp://127.0.0.1:80`. A host that this machine cannot
    /// resolve is left to the client: `tcp://board.lab:80`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is hidden.
    pub(crate) async fn address(&self, protocol: &str, limit: Duration) -> Result<String> {
        if !self.shows_address {
            return Err(hidden(&protocol.to_uppercase()));
        }
        Ok(match self.resolve(limit).await {
            Ok(addresses) => format!("{protocol}://{}", addresses[0]),
            Err(_) => format!("{protocol}://{self}"),
        })
    }

    /// A TCP connection within `limit`, without Nagle's delay and with keep-alive probes.
    ///
    /// # Errors
    /// `Unavailable`, with what became of each address.
    pub(crate) async fn open_tcp(&self, limit: Duration) -> Result<TcpStream> {
        self.open_tcp_of(None, limit).await
    }

    /// As [`open_tcp`](Self::open_tcp), to the addresses of one family.
    pub(crate) async fn open_tcp_of(
        &self,
        family: Option<Family>,
        limit: Duration,
    ) -> Result<TcpStream> {
        let deadline = deadline_after(limit);
        let mut addresses = self.resolve(limit).await?;
        addresses.retain(|address| match family {
            None => true,
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
        });
        if addresses.is_empty() {
            let message = format!("the host `{}` has no address of that family", self.host);
            return Err(Error::unavailable(message));
        }
        let stream = connect_first(&addresses, deadline).await?;
        set_up(&stream).context("setting up the connection")?;
        Ok(stream)
    }
}

/// Tries each address, the next one as soon as one fails or has not answered for 250 ms; the first
/// that answers wins.
async fn connect_first(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream> {
    let mut left = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    while failures.len() < addresses.len() {
        if let Some(&address) = left.next() {
            attempts.push(async move { (address, TcpStream::connect(address).await) });
        }
        let waits_until = match left.as_slice().is_empty() {
            true => deadline,
            false => deadline.min(Instant::now() + NEXT_ADDRESS),
        };
        tokio::select! {
            Some((address, attempt)) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((address, error)),
            },
            () = sleep_until(waits_until) => if Instant::now() >= deadline { break },
        }
    }
    let outcome = |address: &SocketAddr| match failures.iter().find(|(at, _)| at == address) {
        Some((_, error)) => format!("{address}: {error}"),
        None => format!("{address}: no answer"),
    };
    let outcomes: Vec<String> = addresses.iter().map(outcome).collect();
    Err(Error::unavailable(outcomes.join("; "))
        .with_hint("check that the service listens there and that nothing on the way blocks it"))
}

/// The address is written as in a URL: an IPv6 address in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bare_host() {
            host if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// The answer to the question for an address that clients may not know.
pub(crate) fn hidden(what: &str) -> Error {
    Error::invalid_argument(format!("the address of this {what} endpoint is hidden"))
        .with_hint("set `enable_address: true` in the driver's configuration to show it")
}

/// Sends small pieces at once, and notices after two minutes that the peer's machine is lost.
pub(crate) fn set_up(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let set = || {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, SILENCE)?;
        sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(stream, PROBES)
    };
    Ok(set().map_err(io::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    /// An address that does not answer: its queue of connections is full, and the kernel drops
    /// further attempts. It holds as long as the guards do.
    async fn silent() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = socket.listen(0).unwrap();
        let mut queued = Vec::new();
        let full = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(full, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, (listener, queued))
    }

    #[tokio::test]
    async fn an_address_that_hangs_or_refuses_does_not_hold_up_the_others() {
        let (hanging, _full) = silent().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let listens = listener.local_addr().unwrap();
        let limit = Duration::from_secs(3600);
        let addresses = [hanging, closed, listens];
        let connecting = connect_first(&addresses, deadline_after(limit));
        let stream = tokio::time::timeout(Duration::from_secs(60), connecting).await;
        let stream = stream.expect("the hanging one is not waited for").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listens);

        let deadline = deadline_after(Duration::from_millis(600));
        let error = connect_first(&[closed, hanging], deadline).await.unwrap_err();
        let report = error.report();
        assert!(report.contains(&format!("{closed}: Connection refused")), "{report}");
        assert!(report.contains(&format!("{hanging}: no answer")), "{report}");
    }
}
