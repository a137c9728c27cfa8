//! How to log in to a device over SSH: the key, the user and the command of the exporter's lab.
//!
//! `ssh` ([`SshDriver`]) connects nowhere itself. Its child `tcp` is the way to the device's SSH
//! server; a client forwards it to a local port, and runs its own `ssh` with what [`Ssh`] reports.

mod config;
mod driver;
mod interface;

pub use config::SshConfig;
pub use driver::SshDriver;
pub use interface::Ssh;
