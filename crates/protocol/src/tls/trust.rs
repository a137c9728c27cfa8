//! The trusted certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{CertificateFault, certificates, is_version_1, parse, provider, setting_up};

/// Certificates that are trusted: as authorities, and themselves.
///
/// `openssl req -x509` makes certificates that are also an authority's (`CA:TRUE`), and TLS
/// libraries refuse those as a server's or client's. Such a certificate is accepted if it is itself
/// trusted.
#[derive(Clone, Debug)]
pub struct TrustedCertificates {
    roots: Arc<RootCertStore>,
    themselves: Vec<CertificateDer<'static>>,
}

impl TrustedCertificates {
    /// Trusts the certificates of a PEM file. Hints name these `variables` of the environment, if
    /// the file comes from one.
    ///
    /// # Errors
    /// The errors of reading the file; `InvalidArgument` for a file without certificates, or with
    /// one that cannot be an authority's.
    pub fn from_file(file: &Path, variables: Option<&str>) -> Result<Self> {
        Self::of(certificates(file, variables)?, &file.display().to_string())
    }

    /// Trusts the certificates of a text in PEM, which errors call `name`.
    ///
    /// # Errors
    /// `InvalidArgument` for a text without certificates, or with one that cannot be an
    /// authority's.
    pub fn from_pem(text: &[u8], name: &str) -> Result<Self> {
        Self::of(parse(text, name)?, name)
    }

    fn of(themselves: Vec<CertificateDer<'static>>, name: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in themselves.iter().cloned() {
            roots.add(certificate).map_err(|error| {
                let message = format!("trusting the certificates of {name}");
                Error::invalid_argument(message).with_source(error)
            })?;
        }
        Ok(Self { roots: Arc::new(roots), themselves })
    }

    /// Trusts the system's certificates; `None` if there are none.
    pub fn from_system() -> Option<Self> {
        let themselves = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(themselves.iter().cloned());
        (!roots.is_empty()).then(|| Self { roots: Arc::new(roots), themselves })
    }

    pub(super) fn server_verifier(self) -> Result<Arc<dyn ServerCertVerifier>> {
        let signed = WebPkiServerVerifier::builder_with_provider(self.roots, provider()).build();
        let signed =
            signed.map_err(|error| setting_up(rustls::Error::General(error.to_string())))?;
        Ok(Arc::new(Trusting { signed, themselves: self.themselves }))
    }

    pub(super) fn client_verifier(self) -> Result<Arc<dyn ClientCertVerifier>> {
        let signed = WebPkiClientVerifier::builder_with_provider(self.roots, provider()).build();
        let signed = signed
            .map_err(|error| Error::invalid_argument("setting up mutual TLS").with_source(error))?;
        Ok(Arc::new(Trusting { signed, themselves: self.themselves }))
    }
}

/// Whether an authority's certificate was presented as a server's or client's; its time has been
/// checked by then.
pub(super) fn is_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(other)) = error else { return false };
    matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The fault of a certificate at that time, without its signature. The time is checked first.
pub(super) fn time_fault(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Option<CertificateFault> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], now, usage, None, None).err()? {
        webpki::Error::CertExpired { .. } => Some(CertificateFault::Expired),
        webpki::Error::CertNotValidYet { .. } => Some(CertificateFault::NotValidYet),
        _ => None,
    }
}

/// Asks `signed`, and then checks whether a certificate is itself trusted.
#[derive(Debug)]
struct Trusting<V: ?Sized> {
    themselves: Vec<CertificateDer<'static>>,
    signed: Arc<V>,
}

impl<V: ?Sized> Trusting<V> {
    fn trusts(&self, certificate: &CertificateDer<'_>, error: &rustls::Error) -> bool {
        matches!(error, rustls::Error::InvalidCertificate(error) if is_authority(error))
            && self.themselves.contains(certificate)
    }
}

/// The checks that servers and clients share.
macro_rules! signatures {
    () => {
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
    };
}

/// Accepts every server's certificate; the server must still have its key.
#[derive(Debug)]
pub(super) struct Any {
    signed: Arc<CryptoProvider>,
}

impl Any {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { signed: provider() })
    }
}

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.signed.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.signed.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Trusting<WebPkiServerVerifier> {
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
            Err(error) if self.trusts(end_entity, &error) => {
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

    signatures!();
}

impl ClientCertVerifier for Trusting<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.signed.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if self.trusts(end_entity, &error) => Ok(ClientCertVerified::assertion()),
            judged => judged,
        }
    }

    signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    /// Made by `openssl req -x509`, so that it is also an authority's.
    const CERTIFICATE: &[u8] = b"\
-----BEGIN CERTIFICATE-----
MIIBbTCCAROgAwIBAgIUGKw6eNYS5+yT+pxdGo33yIO8/swwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAeFw0yNjExMjgwODU2MTBaFw0zNjExMjUwODU2MTBaMAwx
CjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQa5wlUI4UOfEjz
NuuEshJ2nZQkgeXK9oz5pOXqkeW8erAYWx6jKXZohNLNSTvk+zELEgnwwUbCDUwi
yaIjrCfro1MwUTAdBgNVHQ4EFgQUQswKN0KpAHP7CakwJuW/w4jR/SUwHwYDVR0j
BBgwFoAUQswKN0KpAHP7CakwJuW/w4jR/SUwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiAgN3xrMIXsNRoKN6YRFd7/Sg7MMrrHahZSteZiTXvkowIh
AIU5CZfNElz/e/ut0HaxfZOG72tG2p+ikZgPRHIsRjr+
-----END CERTIFICATE-----
";
    const NOT_BEFORE: u64 = 1_795_856_170;
    const NOT_AFTER: u64 = 2_111_216_170;

    #[test]
    fn a_certificates_time_is_judged_whatever_else_it_is() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
        for (seconds, expected) in [
            (NOT_BEFORE - 1, Some(CertificateFault::NotValidYet)),
            (NOT_BEFORE, None),
            (NOT_AFTER, None),
            (NOT_AFTER + 1, Some(CertificateFault::Expired)),
        ] {
            let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            assert_eq!(time_fault(&certificate, then), expected, "{seconds}");
        }
        let damaged = CertificateDer::from(certificate[..100].to_vec());
        assert_eq!(time_fault(&damaged, UnixTime::now()), None);
    }
}
