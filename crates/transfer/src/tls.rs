//! TLS to servers and proxies, by the authorities that this system trusts.

use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::exchange::Io;

/// Whom a connection trusts.
pub(crate) type Trust = Arc<ClientConfig>;

/// Secures a connection to `host`; `None` is the system's trust.
pub(crate) async fn secure(io: impl Io, host: &str, trust: Option<&Trust>) -> Result<impl Io> {
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
    let name = name.map_err(|_| Error::invalid_argument(format!("{host} is not a host")))?;
    let trust = match trust {
        Some(trust) => trust.clone(),
        None => system().await?,
    };
    TlsConnector::from(trust).connect(name, io).await.context("securing the connection")
}

/// The system's certificate authorities, or those of the file that SSL_CERT_FILE names, as they are
/// now.
async fn system() -> Result<Arc<ClientConfig>> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let loaded =
        loaded.await.map_err(|error| Error::internal("reading certificates").with_source(error))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        return Err(Error::failed_precondition("this system has no certificate authorities")
            .with_hint("install ca-certificates, or name a file in SSL_CERT_FILE"));
    }
    trusting(roots)
}

/// The authorities of a PEM file.
pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or_else(|| Error::invalid_argument("a certificate is damaged"))?;
    }
    match roots.is_empty() {
        true => Err(Error::invalid_argument("there is no certificate in it")
            .with_hint("name a PEM file: it has lines `-----BEGIN CERTIFICATE-----`")),
        false => Ok(roots),
    }
}

/// A configuration that trusts these.
pub(crate) fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("setting up TLS").with_source(error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
