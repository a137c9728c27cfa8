//! Remote branches of a device.
//!
//! `remote` ([`RemoteConfig`]) mounts a device, or a branch of one, that another exporter serves.

mod log;
mod remote;

pub use remote::{Remote, RemoteConfig, RemoteTls};
