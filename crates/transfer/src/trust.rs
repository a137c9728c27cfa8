//! The certificate authorities that a connection trusts.

use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Certificate authorities, for a client of TLS.
///
/// Reading them may block: call it where that is allowed.
#[derive(Clone, Debug)]
pub struct Authorities(RootCertStore);

impl Authorities {
    /// Those of this system, or of the file that SSL_CERT_FILE names, as they are now. There may be
    /// none.
    pub fn from_system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self(roots)
    }

    /// Those of the text of a PEM file.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none, or a damaged one.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            added.ok_or_else(|| Error::invalid_argument("a certificate is damaged"))?;
        }
        match roots.is_empty() {
            true => Err(Error::invalid_argument("there is no certificate in it")
                .with_hint("name a PEM file: it has lines `-----BEGIN CERTIFICATE-----`")),
            false => Ok(Self(roots)),
        }
    }

    /// Those of a PEM file.
    ///
    /// # Errors
    /// The errors of reading the file, and of [`from_pem`](Self::from_pem).
    pub fn from_file(path: &Path) -> Result<Self> {
        let doing = || format!("reading the certificate authorities in {}", path.display());
        let pem = std::fs::read(path).with_context(doing)?;
        Self::from_pem(&pem).with_context(doing)
    }

    /// These and the others.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.0.roots.extend(others.0.roots);
        self
    }

    /// The configuration of a client that trusts these.
    ///
    /// # Errors
    /// `FailedPrecondition` if there are none.
    pub fn client_config(self) -> Result<Arc<ClientConfig>> {
        if self.0.is_empty() {
            return Err(Error::failed_precondition("there is no certificate authority to trust")
                .with_hint("install ca-certificates, or name a PEM file of your authority"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("setting up TLS").with_source(error))?;
        Ok(Arc::new(config.with_root_certificates(self.0).with_no_client_auth()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |text: &str, expected: &str| {
            std::fs::write(file.path(), text).unwrap();
            let report = Authorities::from_file(file.path()).unwrap_err().report();
            assert!(report.contains(expected), "{report}");
            assert!(report.contains(&file.path().display().to_string()), "{report}");
        };
        check("", "there is no certificate in it");
        check("-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n", "is damaged");
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(file.path(), made.cert.pem()).unwrap();
        let found = Authorities::from_file(file.path()).unwrap();
        assert_eq!(found.clone().with(found.clone()).0.len(), 2);
        found.client_config().unwrap();
        let none = Authorities(RootCertStore::empty()).client_config().unwrap_err();
        assert!(none.report().contains("no certificate authority"), "{}", none.report());
    }
}
