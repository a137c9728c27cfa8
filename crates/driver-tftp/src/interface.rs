//! The interface of TFTP servers.

use jumpstarter_driver_core::prelude::*;

/// Serves files to a device over TFTP. Clients put them into the child `storage`.
///
/// Pitfall: anybody who reaches the port reads the files.
#[interface(name = "tftp_server", client = "jumpstarter_driver_tftp.client.TftpServerClient")]
pub trait TftpServer {
    /// Starts the server. Succeeds if it is running. `Unavailable` if the port is in use,
    /// `PermissionDenied` if it needs a privilege.
    async fn start(&self) -> Result<()>;

    /// Stops the server and ends its transfers. Succeeds if it is not running.
    async fn stop(&self) -> Result<()>;

    /// The address or name that the server listens at.
    async fn get_host(&self) -> Result<String>;

    /// The port that the server listens at; while it is not running, the configured one.
    async fn get_port(&self) -> Result<u16>;
}
