//! Resolves a host and a port to addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;

/// Shared by the drivers of endpoints: the address, and whether clients may ask for it.
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

    /// Its addresses, never none; errors are those of [`resolve`].
    pub(crate) async fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>> {
        resolve(&self.host, self.port, limit).await
    }

    /// Its first address as clients see it: `tcp://127.0.0.1:80`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is hidden, and the errors of [`resolve`].
    pub(crate) async fn address(&self, protocol: &str, limit: Duration) -> Result<String> {
        if !self.shows_address {
            let name = protocol.to_uppercase();
            return Err(Error::invalid_argument(format!(
                "the address of this {name} endpoint is hidden"
            ))
            .with_hint("set `enable_address: true` in the driver's configuration to show it"));
        }
        Ok(format!("{protocol}://{}", self.resolve(limit).await?[0]))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The default of `enable_address`.
pub(crate) fn yes() -> bool {
    true
}

/// The addresses of `host`, never none.
///
/// # Errors
/// `Unavailable` if the name has no address, or the resolver does not answer within `limit`.
pub(crate) async fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>> {
    let doing = || format!("resolving host `{host}`");
    // Brackets are how people write IPv6 addresses next to ports.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let lookup = tokio::net::lookup_host((bare, port));
    let found = tokio::time::timeout(limit, lookup).await;
    let found = found.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer"))
    });
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| {
            Error::unavailable(doing())
                .with_source(error)
                .with_hint("check the `host` of this driver's configuration")
        })?
        .collect();
    match addresses.is_empty() {
        true => Err(Error::unavailable("the name has no address").context(doing())),
        false => Ok(addresses),
    }
}
