//! TLS to an exporter, and explanations of its failures.

use std::io;

use jumpstarter_driver_core::{Error, Result};
pub(crate) use jumpstarter_protocol::TlsFailure;
use jumpstarter_protocol::{
    CertificateFault, ClientTls, Identity, TlsFault, Transport, TrustedCertificates,
};

use crate::failure::Failure;
use crate::{Address, ConnectOptions};

/// The variables that name an authority's file, and those of a client's certificate.
const AUTHORITY: &str = "JMP_GRPC_CA";
const CLIENT: &str = "JMP_GRPC_CERT and JMP_GRPC_KEY";

/// Performs the handshake with `options`.
///
/// # Errors
/// `InvalidArgument` and the like for unusable files; `Unavailable`, `PermissionDenied` or
/// `Unauthenticated` for a wrong peer, or one that rejects this client.
pub(crate) async fn handshake(
    options: &ConnectOptions,
    host: &str,
    socket: Box<dyn Transport>,
) -> Result<impl Transport + 'static + use<>, Failure> {
    let address = &options.address;
    settings(options)?.connect(host, socket).await.map_err(|error| {
        if let Some(explained) =
            TlsFailure::find(&error).and_then(|failure| explain(&failure, address, options))
        {
            return explained.into();
        }
        match error.kind() {
            io::ErrorKind::InvalidInput => Error::invalid_argument(format!(
                "`{host}` is not a host that a certificate can name"
            ))
            .into(),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Failure::CutOff(
                Error::unavailable(format!("{address} closed the connection when TLS was begun"))
                    .with_hint("check the port; for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)"),
            ),
            _ => Error::unavailable(format!("the TLS handshake with {address} failed"))
                .with_source(error)
                .with_hint("check the port, and that an exporter with TLS listens there")
                .into(),
        }
    })
}

fn settings(options: &ConnectOptions) -> Result<ClientTls> {
    let trusted = match &options.ca_file {
        Some(file) => TrustedCertificates::from_file(file, Some(AUTHORITY))?,
        None => TrustedCertificates::from_system().ok_or_else(|| {
            Error::failed_precondition("this system has no certificate authorities").with_hint(
                "install ca-certificates, or name the exporter's authority in JMP_GRPC_CA",
            )
        })?,
    };
    let identity = options
        .client_certificate
        .as_ref()
        .map(|(certificate, key)| Identity::client(certificate, key, CLIENT));
    ClientTls::new(trusted, identity.transpose()?)
}

/// Explains a failure of TLS during the handshake, or just after it, when a server rejects the
/// client.
pub(crate) fn explain(
    failure: &TlsFailure,
    address: &Address,
    options: &ConnectOptions,
) -> Option<Error> {
    Some(match failure.fault() {
        TlsFault::NotTls => Error::unavailable(format!("{address} does not speak TLS"))
            .with_hint("for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)"),
        TlsFault::Certificate(fault) => certificate_error(fault, address, options),
        TlsFault::CertificateRequired => Error::unauthenticated(format!("{address} asks for a client certificate"),
        )
        .with_hint(format!(
            "give one that the exporter's authority has signed, and its key: as options, or in {CLIENT}"
        )),
        TlsFault::CertificateRefused => Error::unauthenticated(format!("{address} does not accept the client certificate"),
        )
        .with_source(failure.clone())
        .with_hint("give one that the exporter's authority has signed, and that is valid now"),
        TlsFault::NotHttp2 => {
            Error::unavailable(format!("{address} speaks TLS, but not gRPC")).with_hint("check the port")
        }
        _ => return None,
    })
}

fn certificate_error(
    fault: CertificateFault,
    address: &Address,
    options: &ConnectOptions,
) -> Error {
    let error =
        |text: &str| Error::permission_denied(format!("the certificate of {address} {text}"));
    match fault {
        CertificateFault::UnknownIssuer => {
            let trusted = match &options.ca_file {
                Some(file) => format!("is not signed by an authority of {}", file.display()),
                None => "is not signed by an authority that this system trusts".to_owned(),
            };
            error(&trusted).with_hint("name the exporter's authority, a PEM file, in JMP_GRPC_CA (in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH for Python)")
        }
        CertificateFault::WrongHost(names) if names.is_empty() => {
            error("names no host (a common name does not count)")
                .with_hint("make one with the host, as by `-addext subjectAltName=DNS:lab.example`")
        }
        CertificateFault::WrongHost(names) => {
            error(&format!("is for another host; it is for {}", names.join(", "))).with_hint(
                "connect by a name that the certificate holds, or make one for this name",
            )
        }
        CertificateFault::Expired => {
            error("has expired").with_hint("make a new one, or set the clock")
        }
        CertificateFault::NotValidYet => error("is not valid yet").with_hint("set the clock"),
        CertificateFault::Revoked => error("was revoked").with_hint("make a new one"),
        CertificateFault::Unreadable => error("cannot be read").with_hint("make a new one"),
        CertificateFault::BadSignature => {
            error("has an invalid signature").with_hint("make a new one")
        }
        CertificateFault::WrongPurpose => error("is not meant for servers")
            .with_hint("make one whose extendedKeyUsage has serverAuth"),
        CertificateFault::Authority => {
            let trusted = match &options.ca_file {
                Some(file) => format!("is not among those of {}", file.display()),
                None => "is not among those that this system trusts".to_owned(),
            };
            error(&format!("is an authority's (CA:TRUE), and {trusted}")).with_hint(
                "name that very certificate in JMP_GRPC_CA, or have the exporter show one that the authority has signed",
            )
        }
        CertificateFault::Other(why) => {
            error("cannot be trusted").with_source(io::Error::other(why))
        }
        _ => error("cannot be trusted"),
    }
}
