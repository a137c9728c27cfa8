//! From a host and a port to addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;

/// The addresses of `host`, never none.
///
/// # Errors
/// `Unavailable`: the name has no address, or the resolver does not answer within `limit`.
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
