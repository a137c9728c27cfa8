//! Serves a device in Jumpstarter's protocol, so that existing clients drive it unmodified.
//!
//! A [`Session`] is a device with its ids, its resources (images in transit) and its log.
//! [`serve()`] offers it on a listener, [`Server`] on several that end together. A program that
//! only serves a device needs no more:
//!
//! ```no_run
//! use jumpstarter_driver_core::{Device, Result};
//! use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(device: Device, stop: CancellationToken) -> Result<()> {
//! let session = Session::new(device, SessionOptions::default())?;
//! let listener = Listener::bind(&Address::Unix("/run/lab.sock".into())).await?;
//! serve(session, listener, Access::default(), stop).await
//! # }
//! ```
//!
//! `jumpstarter-daemon` adds hooks, leases, signals, metrics and the log's output.
//!
//! ```text
//! listener ─ TLS ─ authority adapter ─ HTTP/2 ─ passphrase ─ Session ─ Caller ─ driver
//! ```
//!
//! The future or stream of a call's answer owns everything that the call opened, and drops it when
//! the client cancels, when its connection breaks, and when the exporter shuts down.

mod answer;
mod arguments;
mod authority;
mod byte_stream;
mod call;
mod clients;
mod connection;
mod connections;
mod counters;
mod crowd;
mod directory;
mod driver_stream;
mod files_watch;
mod grpc;
mod guesses;
mod id;
mod kept_socket;
mod layers;
mod lease;
mod limits;
mod listener;
mod logs;
mod peer;
mod progress;
mod report;
mod resource;
mod seldom;
mod serve;
mod server;
mod service;
mod session;
mod state;
mod tls;
mod tunnels;
mod visits;
mod watched;
mod windows;

pub use counters::Counts;
pub use jumpstarter_protocol::Address;
pub use kept_socket::SocketKeeper;
pub use limits::Limits;
pub use listener::Listener;
pub use logs::{LogHub, LogLayer, LogRecord, LogSelection, LogSource, LogTopic, Subscription};
pub use serve::{Access, Door, serve};
pub use server::Server;
pub use session::{Session, SessionOptions};
pub use state::{State, Stateful};
pub use tls::TlsOptions;
pub use tunnels::{TunnelEnd, Tunnels};
