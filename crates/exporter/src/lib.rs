//! Serves a device in Jumpstarter's protocol, so that existing clients drive it unmodified.
//!
//! A [`Session`] is a device with its ids, its resources (images on their way) and its log.
//! [`serve`] offers it on a listener. [`run`] and [`shell`] are the commands `jmp run` and `jmp
//! shell`: they read an exporter file, open the device, serve it and close it again.
//!
//! ```text
//! listener ─ TLS ─ authority adapter ─ HTTP/2 ─ passphrase ─ Session ─ Caller ─ driver
//! ```
//!
//! Whatever a call opened is owned by the future or stream that answers it, and is dropped with it:
//! when the client cancels, when its connection breaks, and when the exporter shuts down.

mod arguments;
mod authority;
mod byte_stream;
mod call;
mod clients;
mod connection;
mod crowd;
mod driver_stream;
mod files_watch;
mod gate;
mod grpc;
mod guesses;
mod hooks;
mod id;
mod lease;
mod limits;
mod listener;
pub mod logs;
mod metrics;
mod notify;
mod operation;
mod passphrase;
mod presigned;
mod private_socket;
mod programs;
mod progress;
mod reload;
mod report;
mod resource;
mod run;
mod seldom;
mod serve;
mod service;
mod session;
mod shell;
mod signals;
mod state;
mod tls;
mod visits;
mod watched;
mod windows;

pub use jumpstarter_protocol::{from_status, to_status};
pub use limits::Limits;
pub use listener::{Address, Listener};
pub use logs::{LogFormat, LogHub, Record as LogRecord, Source as LogSource};
pub use programs::search_path;
pub use run::{RunOptions, run};
pub use serve::{Access, serve};
pub use session::{Session, SessionOptions};
pub use shell::{Served, shell};
pub use state::{State, Stateful};
pub use tls::TlsOptions;
