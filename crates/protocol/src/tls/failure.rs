//! Explains failures of TLS.

use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, InvalidMessage};

use super::trust::is_authority;

/// A failure of TLS, during its handshake or later.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct TlsFailure(rustls::Error);

/// The meaning of a failure of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The peer does not speak TLS.
    NotTls,
    /// The peer speaks TLS, but not HTTP/2.
    NotHttp2,
    /// The peer's certificate is rejected here.
    Certificate(CertificateFault),
    /// The server requires a client certificate.
    CertificateRequired,
    /// The peer rejects the presented certificate.
    CertificateRefused,
    /// Any other failure.
    Other,
}

/// Why a certificate is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// No trusted authority has signed it.
    UnknownIssuer,
    /// It is for these hosts; the list may be empty.
    WrongHost(Vec<String>),
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotValidYet,
    /// Its authority has revoked it.
    Revoked,
    /// It cannot be decoded.
    Unreadable,
    /// A signature in it is wrong.
    BadSignature,
    /// It is not meant for this side of a connection.
    WrongPurpose,
    /// It is an authority's, and not itself trusted.
    Authority,
    /// Another fault, as a text.
    Other(String),
}

impl TlsFailure {
    /// Finds the TLS failure in an error.
    pub fn find(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().cloned().map(Self)
    }

    /// Returns the failure's meaning.
    pub fn fault(&self) -> TlsFault {
        match &self.0 {
            // A very long chain of certificates.
            rustls::Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge
                | InvalidMessage::CertificatePayloadTooLarge,
            ) => TlsFault::Other,
            rustls::Error::InvalidMessage(_) => TlsFault::NotTls,
            rustls::Error::InvalidCertificate(why) => TlsFault::Certificate(certificate(why)),
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => TlsFault::CertificateRequired,
                AlertDescription::NoApplicationProtocol => TlsFault::NotHttp2,
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied => TlsFault::CertificateRefused,
                _ => TlsFault::Other,
            },
            rustls::Error::NoApplicationProtocol => TlsFault::NotHttp2,
            _ => TlsFault::Other,
        }
    }
}

/// A name as people write it: `lab.example` of `DnsName("lab.example")`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

fn certificate(why: &CertificateError) -> CertificateFault {
    match why {
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::NotValidForName => CertificateFault::WrongHost(Vec::new()),
        CertificateError::NotValidForNameContext { presented, .. } => {
            CertificateFault::WrongHost(presented.iter().map(|name| bare(name)).collect())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateFault::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotValidYet
        }
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::BadEncoding => CertificateFault::Unreadable,
        CertificateError::BadSignature => CertificateFault::BadSignature,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::WrongPurpose
        }
        why if is_authority(why) => CertificateFault::Authority,
        CertificateError::Other(other) => CertificateFault::Other(other.0.to_string()),
        other => CertificateFault::Other(rustls::Error::from(other.clone()).to_string()),
    }
}
