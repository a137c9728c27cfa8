//! TLS to a server, by the authorities that this system trusts and those of a file.

use jumpstarter_driver_core::blocking;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_transfer::Authorities;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Secures a connection to `host`.
///
/// # Errors
/// `Unavailable` if the server is not trusted or speaks no TLS; `FailedPrecondition` if no
/// authority is trusted at all.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    ca_file: Option<&HostPath>,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
        .map_err(|_| Error::invalid_argument(format!("`{host}` is not a host")))?;
    let file = ca_file.cloned();
    let trusted = move || match file {
        Some(file) => {
            Authorities::from_system().with(Authorities::from_file(&file)?).client_config()
        }
        None => Authorities::from_system().client_config(),
    };
    let connector = TlsConnector::from(blocking(trusted).await?);
    connector.connect(name, stream).await.map_err(|error| {
        Error::unavailable("the connection cannot be secured").with_source(error).with_hint(
            "check that the server speaks TLS; name its authority in `ca_file` if it is your own",
        )
    })
}
