//! TLS for TCP listeners: the exporter's certificate, and who may connect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_protocol::is_version_1;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

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
    let certificates =
        CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
    let certificates = certificates
        .map_err(|error| Error::invalid_argument("it is not PEM").with_source(error))
        .with_context(doing)?;
    match certificates.is_empty() {
        true => Err(Error::invalid_argument(format!("{}: there is none", doing()))
            .with_hint("a PEM file has lines `-----BEGIN CERTIFICATE-----`")),
        false => Ok(certificates),
    }
}

/// Trusts client certificates that an authority has signed, and those that are themselves among the
/// trusted ones: what `openssl req -x509` makes is also an authority's, and would be refused as a
/// client's.
#[derive(Debug)]
struct TrustedClients {
    signed: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for TrustedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        match self.signed.verify_client_cert(end_entity, intermediates, now) {
            // Its time has been judged by then.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string().contains("CaUsedAsEndEntity")
                    && self.trusted.contains(end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

impl TlsOptions {
    /// The files that are read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authority.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }

    /// # Errors
    /// As the files' reading; `InvalidArgument` for what is not a certificate or key, or where they
    /// do not match.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor> {
        let doing = || format!("reading the private key from {}", self.key.display());
        let text = std::fs::read(&self.key).with_context(doing)?;
        // The parser's error could quote the file, which holds a secret.
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| Error::invalid_argument("it is not a private key in PEM"))
            .with_context(doing)?;
        let provider = provider();
        let invalid =
            |doing: &str, error: rustls::Error| Error::invalid_argument(doing).with_source(error);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("setting up TLS", error))?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                let trusted = certificates(file)?;
                for certificate in trusted.iter().cloned() {
                    let doing = format!("trusting the certificates of {}", file.display());
                    roots.add(certificate).map_err(|error| invalid(&doing, error))?;
                }
                let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| {
                        Error::invalid_argument("setting up mutual TLS").with_source(error)
                    })?;
                builder.with_client_cert_verifier(Arc::new(TrustedClients { signed, trusted }))
            }
        };
        let chain = certificates(&self.certificate)?;
        if chain.first().is_some_and(|certificate| is_version_1(certificate)) {
            let file = self.certificate.display();
            return Err(Error::invalid_argument(format!(
                "the certificate {file} is of X.509's version 1"
            ))
            .with_hint(
                "make one with extensions, such as `-addext subjectAltName=DNS:lab.example`",
            ));
        }
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| invalid("the certificate and the private key do not fit", error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
