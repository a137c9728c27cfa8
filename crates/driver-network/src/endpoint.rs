//! A host and a port: to addresses, and to a TCP connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{connect_first, deadline_after, keep_alive};
use tokio::net::TcpStream;

/// How long connecting may take unless configured.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
        lookup(self.bare_host(), self.port, limit).await.map_err(|error| {
            Error::unavailable(doing())
                .with_source(error)
                .with_hint("check the host in this driver's configuration")
        })
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
        let connected = connect_first(&addresses, Some(deadline)).await;
        let stream = connected.map_err(|error| {
            Error::unavailable(error.to_string()).with_hint(
                "check that the service listens there and that nothing on the way blocks it",
            )
        })?;
        keep_alive(&stream).context("setting up the connection")?;
        Ok(stream)
    }
}

/// The addresses of a host, never none, within `limit`.
pub(crate) async fn lookup(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await;
    let found = found.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer"))
    });
    let addresses: Vec<SocketAddr> = found?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(addresses),
    }
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
