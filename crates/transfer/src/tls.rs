//! TLS to servers and proxies, by the authorities that this system trusts.

use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt, blocking};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::exchange::Io;
use crate::trust::Authorities;

/// Whom a connection trusts.
pub(crate) type Trust = Arc<ClientConfig>;

/// Secures a connection to `host`; `None` is the system's trust.
pub(crate) async fn secure(io: impl Io, host: &str, trust: Option<&Trust>) -> Result<impl Io> {
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
    let name = name.map_err(|_| Error::invalid_argument(format!("{host} is not a host")))?;
    let trust = match trust {
        Some(trust) => trust.clone(),
        None => blocking(|| Authorities::from_system().client_config()).await?,
    };
    TlsConnector::from(trust).connect(name, io).await.context("securing the connection")
}
