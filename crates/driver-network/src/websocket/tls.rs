//! TLS to a server, by the authorities that this system trusts and those of a file.

use std::sync::Arc;

use jumpstarter_driver_core::blocking;
use jumpstarter_driver_core::prelude::*;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

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
    let roots = blocking(move || authorities(file.as_ref())).await?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("setting up TLS").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| {
        Error::unavailable("the connection cannot be secured").with_source(error).with_hint(
            "check that the server speaks TLS; name its authority in `ca_file` if it is your own",
        )
    })
}

/// The authorities as they are now.
fn authorities(file: Option<&HostPath>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let doing = || format!("reading the authorities in {}", file.display());
        let pem = std::fs::read(&**file).with_context(doing)?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate
                .map_err(|error| Error::invalid_argument(error.to_string()).context(doing()))?;
            roots
                .add(certificate)
                .map_err(|error| Error::invalid_argument(error.to_string()).context(doing()))?;
        }
        if roots.len() == before {
            return Err(Error::invalid_argument("it has no certificate").context(doing()));
        }
    }
    match roots.is_empty() {
        true => Err(Error::failed_precondition("this system trusts no certificate authority")
            .with_hint("install ca-certificates, or name a file in `ca_file`")),
        false => Ok(roots),
    }
}
