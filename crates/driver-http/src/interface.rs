//! The interface of HTTP servers.

use jumpstarter_driver_core::prelude::*;

/// Serves files to a device over HTTP. Clients put them into the child `storage`.
///
/// Pitfall: anybody who reaches the port reads the files.
#[interface(name = "http_server", client = "jumpstarter_driver_http.client.HttpServerClient")]
pub trait HttpServer {
    /// Starts the server; one that runs is started anew. `Unavailable` if the port is in use,
    /// `PermissionDenied` if it needs a privilege.
    async fn start(&self) -> Result<()>;

    /// Stops the server and ends its connections. Succeeds if it is not running.
    async fn stop(&self) -> Result<()>;

    /// The URL of the folder, such as `http://192.168.1.2:8080`. Its port is 0 while the server is
    /// not running.
    async fn get_url(&self) -> Result<String>;

    /// The address or name that the server listens at.
    async fn get_host(&self) -> Result<String>;

    /// The port that the server listens at; 0 while it is not running.
    async fn get_port(&self) -> Result<u16>;
}
