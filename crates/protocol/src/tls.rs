//! TLS for both ends: certificates and keys from PEM files, trust, and failures.

mod failure;
mod trust;
mod version;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result};
use tokio::io::BufReader;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, InconsistentKeys, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::failure::{CertificateFault, TlsFailure, TlsFault};
pub use self::trust::TrustedCertificates;
use self::version::is_version_1;
use crate::Transport;

/// The only protocol inside TLS (ALPN): HTTP/2.
const HTTP_2: &[u8] = b"h2";
/// The largest file of certificates or of a key: all public authorities take 250 KB.
const MAX_FILE: u64 = 1 << 20;
/// The most encrypted bytes that one read of the socket takes. The library's own reads take 4 KiB.
const READ: usize = 32 << 10;

/// A certificate with the intermediate ones, and its private key.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Reads a client's certificate and key. Hints name these `variables` of the environment.
    ///
    /// # Errors
    /// The errors of reading the files; `InvalidArgument` for an invalid certificate or key, for
    /// X.509's version 1, and for a mismatch of the two.
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
        let private_key =
            PrivateKeyDer::from_pem_slice(&text).map_err(|_| not_a_key(&text, key))?;
        let chain = certificates(certificate, variables)?;
        let (certificate, key) = (certificate.display(), key.display());
        if chain.first().is_some_and(|certificate| is_version_1(certificate)) {
            let message =
                format!("the certificate {certificate} is of X.509's version 1, which TLS refuses");
            return Err(Error::invalid_argument(message)
                .with_hint(format!("make one with extensions, such as `-addext {extension}`")));
        }
        // Its error would deny that it is a key, which it is.
        let private_key = provider().key_provider.load_private_key(private_key).map_err(|_| {
            Error::invalid_argument(format!(
                "the private key {key} is of a kind or size that is not supported, or damaged"
            ))
            .with_hint(
                "make one of ECDSA (P-256, P-384), of Ed25519, or of RSA with 2048 to 4096 bits",
            )
        })?;
        let pair = CertifiedKey::new(chain, private_key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Self(Arc::new(pair)))
            }
            Err(rustls::Error::InconsistentKeys(_)) => {
                let variables = variables.map(|names| format!(", as options or in {names}"));
                Err(Error::invalid_argument(format!(
                    "{key} is not the private key of the certificate {certificate}"
                ))
                .with_hint(format!(
                    "name files that belong together{}",
                    variables.unwrap_or_default()
                )))
            }
            Err(error) => Err(Error::invalid_argument(format!(
                "the certificate {certificate} is damaged, or takes more than 64 KiB"
            ))
            .with_source(error)),
        }
    }

    /// Returns the fault of the certificate's time now: [`CertificateFault::Expired`] or
    /// [`CertificateFault::NotValidYet`].
    pub fn time_fault(&self) -> Option<CertificateFault> {
        self.0.cert.first().and_then(|certificate| trust::time_fault(certificate, UnixTime::now()))
    }

    fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.0))
    }
}

/// The client's side of TLS.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Trusts these servers, and presents this certificate.
    ///
    /// # Errors
    /// `Internal` if the library refuses the settings.
    pub fn new(trusted: TrustedCertificates, identity: Option<Identity>) -> Result<Self> {
        Self::verifying(trusted.server_verifier()?, identity)
    }

    /// Trusts every server, whatever its certificate: a program in between can read and change
    /// everything.
    ///
    /// # Errors
    /// `Internal` if the library refuses the settings.
    pub fn trusting_any() -> Result<Self> {
        Self::verifying(trust::Any::new(), None)
    }

    fn verifying(
        verifier: Arc<dyn ServerCertVerifier>,
        identity: Option<Identity>,
    ) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(setting_up)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        };
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Performs the handshake with the server `host`.
    ///
    /// # Errors
    /// `InvalidInput` for a host that no certificate can name; else the connection's errors:
    /// [`TlsFailure::find`] extracts the TLS failure.
    pub async fn connect<T: Transport>(
        &self,
        host: &str,
        socket: T,
    ) -> io::Result<impl Transport + use<T>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, BufReader::with_capacity(READ, socket)).await
    }
}

/// The server's side of TLS. Clones share their settings.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Presents this certificate, and accepts clients with a trusted one; all clients without
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

    /// Performs the handshake with a client.
    ///
    /// # Errors
    /// The errors of the connection and of TLS.
    pub async fn accept<T: Transport>(&self, socket: T) -> io::Result<impl Transport + use<T>> {
        self.0.accept(BufReader::with_capacity(READ, socket)).await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn setting_up(error: rustls::Error) -> Error {
    Error::internal("setting up TLS").with_source(error)
}

/// Explains why a file has no readable private key.
fn not_a_key(text: &[u8], file: &Path) -> Error {
    let file = file.display();
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| text.windows(mark.len()).any(|part| part == *mark));
    match is_encrypted {
        true => Error::invalid_argument(format!("the private key {file} is encrypted"))
            .with_hint(format!("decrypt it: `openssl pkey -in {file} -out NEW_FILE`")),
        false => Error::invalid_argument(format!(
            "reading the private key from {file}: it is not one in PEM"
        ))
        .with_hint("a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`"),
    }
}

/// Reads a file, which `variables` of the environment name.
fn read(doing: &str, file: &Path, variables: Option<&str>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let error = match read {
        Ok(length) if length as u64 > MAX_FILE => {
            Error::invalid_argument("it is larger than 1 MiB")
        }
        Ok(_) => return Ok(bytes),
        Err(error) => error.into(),
    };
    let error = error.context(format!("{doing} {}", file.display()));
    Err(match variables {
        None => error,
        Some(names) => error.with_hint(format!("name another file, as an option or in {names}")),
    })
}

fn certificates(file: &Path, variables: Option<&str>) -> Result<Vec<CertificateDer<'static>>> {
    let text = read("reading certificates from", file, variables)?;
    parse(&text, &file.display().to_string())
}

/// The certificates of a text, which errors call `name`.
fn parse(text: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates =
        CertificateDer::pem_slice_iter(text).collect::<std::result::Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            Err(Error::invalid_argument(format!("reading certificates from {name}: there is none"))
                .with_hint("a PEM file has lines `-----BEGIN CERTIFICATE-----`"))
        }
    }
}
