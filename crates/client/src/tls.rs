//! TLS to an exporter, and what its failures mean.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::is_version_1;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme,
};

use crate::socket::Io;
use crate::{Address, ConnectOptions};

/// The variables that name an authority's file, and those of a client's certificate.
const AUTHORITY: &str = "JMP_GRPC_CA";
const CLIENT: &str = "JMP_GRPC_CERT and JMP_GRPC_KEY";

/// Shakes hands as `options` say.
///
/// # Errors
/// `InvalidArgument` and the like for files that cannot be used; `Unavailable`, `PermissionDenied`
/// or `Unauthenticated` for what the other side is, or does not accept.
pub(crate) async fn handshake(
    options: &ConnectOptions,
    host: &str,
    socket: Box<dyn Io>,
) -> Result<TlsStream<Box<dyn Io>>> {
    let config = config(options)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::invalid_argument(format!("`{host}` is not a host that a certificate can name"))
    })?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    connecting.map_err(|error| {
        let address = &options.address;
        let explained = failure(&error).and_then(|failure| explain(failure, address, options));
        explained.unwrap_or_else(|| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Error::unavailable(format!("{address} closed the connection when TLS was begun"))
                    .with_hint("check the port; for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)")
            }
            _ => Error::unavailable(format!("the TLS handshake with {address} failed"))
                .with_source(error)
                .with_hint("check the port, and that an exporter with TLS listens there"),
        })
    })
}

/// What TLS itself failed with, if that is the error.
pub(crate) fn failure(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A file, of whose name `variables` hold one.
fn read(doing: &str, file: &Path, variables: &str) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        let hint = format!("name another file, as an option or in {variables}");
        Error::from(error).context(format!("{doing} {}", file.display())).with_hint(hint)
    })
}

fn certificates(file: &Path, variables: &str) -> Result<Vec<CertificateDer<'static>>> {
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

/// The certificates that are trusted, as authorities or themselves.
fn trusted(options: &ConnectOptions) -> Result<TrustedServers> {
    let internal = |error| Error::internal("setting up TLS").with_source(error);
    let mut roots = RootCertStore::empty();
    let trusted = match &options.ca_file {
        Some(file) => {
            let trusted = certificates(file, AUTHORITY)?;
            for certificate in trusted.iter().cloned() {
                roots.add(certificate).map_err(|error| {
                    let message = format!("trusting the certificates of {}", file.display());
                    Error::invalid_argument(message).with_source(error)
                })?;
            }
            trusted
        }
        None => {
            let trusted = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(trusted.iter().cloned());
            if roots.is_empty() {
                return Err(Error::failed_precondition(
                    "this system has no certificate authorities",
                )
                .with_hint(
                    "install ca-certificates, or name the exporter's authority in JMP_GRPC_CA",
                ));
            }
            trusted
        }
    };
    let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    Ok(TrustedServers { signed: signed.map_err(internal)?, trusted })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Trusts certificates that an authority has signed, and those that are themselves among the
/// trusted ones: what `openssl req -x509` makes is also an authority's, and would be refused as a
/// server's.
#[derive(Debug)]
struct TrustedServers {
    signed: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

/// Whether an authority's certificate was shown as a server's; its time has been judged by then.
fn is_of_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity"))
}

impl ServerCertVerifier for TrustedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.signed.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match judged {
            Err(rustls::Error::InvalidCertificate(error))
                if is_of_authority(&error) && self.trusted.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(_) if is_version_1(end_entity) => Err(CertificateError::Other(OtherError(
                Arc::new(io::Error::other("it is of X.509's version 1, and names no host")),
            ))
            .into()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

fn config(options: &ConnectOptions) -> Result<ClientConfig> {
    let internal = |error: rustls::Error| Error::internal("setting up TLS").with_source(error);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusted(options)?));
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let text = read("reading the private key from", key, CLIENT)?;
            // The parser's error could quote the file, which holds a secret.
            let private_key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
                let message =
                    format!("reading the private key from {}: it is not one in PEM", key.display());
                Error::invalid_argument(message)
                    .with_hint("a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`")
            })?;
            let chain = certificates(certificate, CLIENT)?;
            if chain.first().is_some_and(|certificate| is_version_1(certificate)) {
                let file = certificate.display();
                let message =
                    format!("the certificate {file} is of X.509's version 1, which TLS refuses");
                return Err(Error::invalid_argument(message).with_hint(
                    "make one with extensions, such as `-addext basicConstraints=CA:FALSE`",
                ));
            }
            builder.with_client_auth_cert(chain, private_key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    let (certificate, key) = (certificate.display(), key.display());
                    Error::invalid_argument(format!(
                        "{key} is not the private key of the certificate {certificate}"
                    ))
                    .with_hint(format!(
                        "name files that belong together, as options or in {CLIENT}"
                    ))
                }
                error => Error::invalid_argument(format!(
                    "the certificate {} and its key {} cannot be used",
                    certificate.display(),
                    key.display()
                ))
                .with_source(error),
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a failure of TLS means, during the handshake or just after it, when a server says what it
/// thinks of the client.
pub(crate) fn explain(
    error: &rustls::Error,
    address: &Address,
    options: &ConnectOptions,
) -> Option<Error> {
    Some(match error {
        rustls::Error::InvalidMessage(_) => Error::unavailable(format!("{address} does not speak TLS"))
            .with_hint("for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)"),
        rustls::Error::InvalidCertificate(why) => certificate_error(why, address, options),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Error::new(
            ErrorKind::Unauthenticated,
            format!("{address} asks for a client certificate"),
        )
        .with_hint(format!(
            "give one that the exporter's authority has signed, and its key: as options, or in {CLIENT}"
        )),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => Error::new(
            ErrorKind::Unauthenticated,
            format!("{address} does not accept the client certificate"),
        )
        .with_source(error.clone())
        .with_hint("give one that the exporter's authority has signed, and that is valid now"),
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        | rustls::Error::NoApplicationProtocol => {
            Error::unavailable(format!("{address} speaks TLS, but not gRPC")).with_hint("check the port")
        }
        _ => return None,
    })
}

/// A name as people write it: `lab.example` of `DnsName("lab.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn certificate_error(why: &CertificateError, address: &Address, options: &ConnectOptions) -> Error {
    let error = |text: &str| {
        Error::new(ErrorKind::PermissionDenied, format!("the certificate of {address} {text}"))
    };
    match why {
        CertificateError::UnknownIssuer => {
            let trusted = match &options.ca_file {
                Some(file) => format!("is not signed by an authority of {}", file.display()),
                None => "is not signed by an authority that this system trusts".to_owned(),
            };
            error(&trusted).with_hint("name the exporter's authority, a PEM file, in JMP_GRPC_CA (in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH for Python)")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names: &[String] = match why {
                CertificateError::NotValidForNameContext { presented, .. } => presented,
                _ => &[],
            };
            match names.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ") {
                names if names.is_empty() => error("names no host (a common name does not count)")
                    .with_hint(
                        "make one with the host, as by `-addext subjectAltName=DNS:lab.example`",
                    ),
                names => error(&format!("is for another host; it is for {names}")).with_hint(
                    "connect by a name that the certificate holds, or make one for this name",
                ),
            }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            error("has expired").with_hint("make a new one, or set the clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error("is not valid yet").with_hint("set the clock")
        }
        CertificateError::Revoked => error("was revoked").with_hint("make a new one"),
        CertificateError::BadEncoding => error("cannot be read").with_hint("make a new one"),
        CertificateError::BadSignature => {
            error("does not hold together: a signature in it is wrong").with_hint("make a new one")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            error("is not meant for servers")
                .with_hint("make one whose extendedKeyUsage has serverAuth")
        }
        _ if is_of_authority(why) => {
            let trusted = match &options.ca_file {
                Some(file) => format!("is not among those of {}", file.display()),
                None => "is not among those that this system trusts".to_owned(),
            };
            error(&format!("is an authority's (CA:TRUE), and {trusted}")).with_hint(
                "name that very certificate in JMP_GRPC_CA, or have the exporter show one that the authority has signed",
            )
        }
        CertificateError::Other(other) => {
            error("cannot be trusted").with_source(io::Error::other(other.0.to_string()))
        }
        other => error("cannot be trusted").with_source(rustls::Error::from(other.clone())),
    }
}
