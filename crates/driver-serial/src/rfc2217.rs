//! Serial ports over the network, as RFC 2217 describes them.

mod client;
mod codes;
mod server;
mod telnet;

pub(crate) use client::{Remote, open};
pub use server::Rfc2217Server;
