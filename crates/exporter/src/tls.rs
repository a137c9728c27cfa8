//! TLS for TCP listeners: the exporter's certificate, and who may connect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The files of a TLS listener, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The exporter's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are let in; without them everybody is.
    pub client_authority: Option<PathBuf>,
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let doing = || format!("reading certificates from {}", file.display());
    let text = std::fs::read(file).with_context(doing)?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
    let certificates = certificates
        .map_err(|error| Error::invalid_argument("it is not PEM").with_source(error))
        .with_context(doing)?;
    match certificates.is_empty() {
        true => Err(Error::invalid_argument(format!("{}: there is none", doing()))
            .with_hint("a PEM file has lines `-----BEGIN CERTIFICATE-----`")),
        false => Ok(certificates),
    }
}

impl TlsOptions {
    /// # Errors
    /// As the files' reading; `InvalidArgument` for what is not a certificate or key, or where they do not match.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor> {
        let doing = || format!("reading the private key from {}", self.key.display());
        let text = std::fs::read(&self.key).with_context(doing)?;
        // The parser's error could quote the file, which holds a secret.
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| Error::invalid_argument("it is not a private key in PEM"))
            .with_context(doing)?;
        let provider = provider();
        let invalid = |doing: &str, error: rustls::Error| Error::invalid_argument(doing).with_source(error);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("setting up TLS", error))?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    let doing = format!("trusting the certificates of {}", file.display());
                    roots.add(certificate).map_err(|error| invalid(&doing, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| Error::invalid_argument("setting up mutual TLS").with_source(error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(|error| invalid("the certificate and the private key do not fit", error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
