//! TLS for both ends: certificates and keys from PEM files, whom to trust, and why it failed.

mod failure;
mod trust;
mod version;

use std::io;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::failure::{CertificateFault, TlsFailure, TlsFault};
pub use self::trust::TrustedCertificates;
use self::version::is_version_1;
use crate::Transport;

/// The one protocol that is spoken inside TLS (ALPN): HTTP/2.
const HTTP_2: &[u8] = b"h2";

/// A certificate with those between it and its authority, and its private key.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Reads a client's certificate and key. Hints name these `variables` of the environment.
    ///
    /// # Errors
    /// As the files' reading; `InvalidArgument` for what is not a certificate or key, for X.509's
    /// version 1, and where the two do not belong together.
    pub fn client(certificate: &Path, key: &Path, variables: &str) -> Result<Self> {
        Self::read(certificate, key, Some(variables), "basicConstraints=CA:FALSE")
    }

    /// Reads a server's certificate and key.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn server(certificate: &Path, key: &Path) -> Result<Self> {
        Self::read(certificate, key, None, "subjectAltName=DNS:lab.example")
    }

    fn read(
        certificate: &Path,
        key: &Path,
        variables: Option<&str>,
        extension: &str,
    ) -> Result<Self> {
        let text = read("reading the private key from", key, variables)?;
        // The parser's error could quote the file, which holds a secret.
        let private_key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let message =
                format!("reading the private key from {}: it is not one in PEM", key.display());
            Error::invalid_argument(message)
                .with_hint("a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`")
        })?;
        let chain = certificates(certificate, variables)?;
        let (certificate, key) = (certificate.display(), key.display());
        if chain.first().is_some_and(|certificate| is_version_1(certificate)) {
            let message =
                format!("the certificate {certificate} is of X.509's version 1, which TLS refuses");
            return Err(Error::invalid_argument(message)
                .with_hint(format!("make one with extensions, such as `-addext {extension}`")));
        }
        let pair = CertifiedKey::from_der(chain, private_key, &provider());
        let pair = pair.map_err(|error| match (error, variables) {
            (rustls::Error::InconsistentKeys(_), variables) => {
                let error = Error::invalid_argument(format!(
                    "{key} is not the private key of the certificate {certificate}"
                ));
                let variables = variables.map(|names| format!(", as options or in {names}"));
                error.with_hint(format!(
                    "name files that belong together{}",
                    variables.unwrap_or_default()
                ))
            }
            (error, _) => Error::invalid_argument(format!(
                "the certificate {certificate} and its key {key} cannot be used"
            ))
            .with_source(error),
        })?;
        Ok(Self(Arc::new(pair)))
    }

    fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.0))
    }
}

/// TLS as a client speaks it.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Trusts these servers, and shows them this certificate.
    ///
    /// # Errors
    /// `Internal` if the library refuses the settings.
    pub fn new(trusted: TrustedCertificates, identity: Option<Identity>) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(setting_up)?
            .dangerous()
            .with_custom_certificate_verifier(trusted.server_verifier()?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        };
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with the server `host`.
    ///
    /// # Errors
    /// `InvalidInput` for a host that no certificate can name; the connection's own otherwise:
    /// [`TlsFailure::find`] finds what TLS failed with.
    pub async fn connect<T: Transport>(
        &self,
        host: &str,
        socket: T,
    ) -> io::Result<impl Transport + use<T>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, socket).await
    }
}

/// TLS as a server speaks it. Clones share their settings.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Shows clients this certificate, and lets in those that show a trusted one; everyone without
    /// `trusted`.
    ///
    /// # Errors
    /// `InvalidArgument` for certificates that cannot be trusted; `Internal` if the library
    /// refuses the settings.
    pub fn new(identity: Identity, trusted: Option<TrustedCertificates>) -> Result<Self> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(setting_up)?;
        let builder = match trusted {
            None => builder.with_no_client_auth(),
            Some(trusted) => builder.with_client_cert_verifier(trusted.client_verifier()?),
        };
        let mut config = builder.with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// The connection's own, and what TLS refuses.
    pub async fn accept<T: Transport>(&self, socket: T) -> io::Result<impl Transport + use<T>> {
        self.0.accept(socket).await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn setting_up(error: rustls::Error) -> Error {
    Error::internal("setting up TLS").with_source(error)
}

/// A file, which `variables` of the environment name.
fn read(doing: &str, file: &Path, variables: Option<&str>) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        let error = Error::from(error).context(format!("{doing} {}", file.display()));
        match variables {
            None => error,
            Some(names) => {
                error.with_hint(format!("name another file, as an option or in {names}"))
            }
        }
    })
}

fn certificates(file: &Path, variables: Option<&str>) -> Result<Vec<CertificateDer<'static>>> {
    let text = read("reading certificates from", file, variables)?;
    let certificates =
        CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::invalid_argument(format!(
            "reading certificates from {}: there is none",
            file.display()
        ))
        .with_hint("a PEM file has lines `-----BEGIN CERTIFICATE-----`")),
    }
}
