//! The interface of drivers that know how to log in to a device.

use jumpstarter_driver_core::prelude::*;

/// Knows how to log in to the device behind its child `tcp`.
///
/// Pitfall: the private key is sent to every client that asks for it. It belongs to the lab, not to
/// a person.
#[interface(name = "ssh", client = "jumpstarter_driver_ssh.client.SSHWrapperClient")]
pub trait Ssh {
    /// The user to log in as, unless the caller names one; empty for the client's own.
    async fn get_default_username(&self) -> Result<String>;

    /// The `ssh` program that the client runs, and its options, as a shell writes them.
    async fn get_ssh_command(&self) -> Result<String>;

    /// Returns the private key for the login, as text; `None` if the client tries its own keys.
    /// `NotFound` and others if its file cannot be read.
    async fn get_ssh_identity(&self) -> Result<Option<String>>;
}
