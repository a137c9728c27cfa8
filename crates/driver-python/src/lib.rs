//! Remote branches of a device.
//!
//! `remote` ([`RemoteConfig`]) mounts a device, or a branch of one, that another exporter serves.
//! `python` ([`HostedConfig`]) hosts the drivers in Python that an exporter file names: each runs,
//! with the packages of Jumpstarter in Python, in a process that this program owns, and its branch
//! is mounted in the device.
//!
//! ```text
//! this program ── fork server ──▶ process of `shell` ◀── Unix socket ── mount of `shell`
//!                      └────────▶ process of `tftp`  ◀── Unix socket ── mount of `tftp`
//! ```

mod hosted;
mod interpreter;
mod log;
mod look;
mod modules;
mod process;
mod remote;
mod server;

pub use hosted::{Hosted, HostedConfig, HostedTree};
pub use look::{Looked, look};
pub use remote::{Remote, RemoteConfig, RemoteTls};
