//! TLS to an exporter, and what its failures mean.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::socket::Io;
use crate::{Address, ConnectOptions};

/// The variables that name an authority's file, and those of a client's certificate.
const AUTHORITY: &str = "JMP_GRPC_CA";
const CLIENT: &str = "JMP_GRPC_CERT and JMP_GRPC_KEY";

/// Shakes hands as `options` say.
///
/// # Errors
/// `InvalidArgument` and the like for files that cannot be used; `Unavailable`, `PermissionDenied` or
/// `Unauthenticated` for what the other side is, or does not accept.
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
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::invalid_argument(format!(
            "reading certificates from {}: there is none",
            file.display()
        ))
        .with_hint("a PEM file has lines `-----BEGIN CERTIFICATE-----`")),
    }
}

fn roots(options: &ConnectOptions) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(file) => {
            for certificate in certificates(file, AUTHORITY)? {
                roots.add(certificate).map_err(|error| {
                    let message = format!("trusting the certificates of {}", file.display());
                    Error::invalid_argument(message).with_source(error)
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::failed_precondition("this system has no certificate authorities")
                    .with_hint("install ca-certificates, or name the exporter's authority in JMP_GRPC_CA"));
            }
        }
    }
    Ok(roots)
}

fn config(options: &ConnectOptions) -> Result<ClientConfig> {
    let internal = |error: rustls::Error| Error::internal("setting up TLS").with_source(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .with_root_certificates(roots(options)?);
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let text = read("reading the private key from", key, CLIENT)?;
            // The parser's error could quote the file, which holds a secret.
            let private_key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
                let message = format!("reading the private key from {}: it is not one in PEM", key.display());
                Error::invalid_argument(message)
                    .with_hint("a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`")
            })?;
            builder.with_client_auth_cert(certificates(certificate, CLIENT)?, private_key).map_err(
                |error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    Error::invalid_argument(format!(
                        "{key} is not the private key of the certificate {certificate}"
                    ))
                    .with_source(error)
                    .with_hint(format!("name files that belong together, as options or in {CLIENT}"))
                },
            )?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a failure of TLS means, during the handshake or just after it, when a server says what it thinks of the client.
pub(crate) fn explain(error: &rustls::Error, address: &Address, options: &ConnectOptions) -> Option<Error> {
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
    let error =
        |text: &str| Error::new(ErrorKind::PermissionDenied, format!("the certificate of {address} {text}"));
    match why {
        CertificateError::UnknownIssuer => {
            let trusted = match &options.ca_file {
                Some(file) => format!("is not signed by an authority of {}", file.display()),
                None => "is not signed by an authority that this system trusts".to_owned(),
            };
            error(&trusted).with_hint("name the exporter's authority in JMP_GRPC_CA (a PEM file)")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = match why {
                CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                    format!(
                        "; it is for {}",
                        presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
                    )
                }
                _ => String::new(),
            };
            error(&format!("is for another host{names}"))
                .with_hint("connect by a name that the certificate holds, or make one for this name")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            error("has expired").with_hint("make a new one, or set the clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error("is not valid yet").with_hint("set the clock")
        }
        other => error("cannot be trusted").with_source(rustls::Error::from(other.clone())),
    }
}
