//! TLS for TCP listeners: the exporter's certificate, and the accepted clients.

use std::path::PathBuf;

use jumpstarter_driver_core::Result;
use jumpstarter_protocol::{CertificateFault, Identity, ServerTls, TrustedCertificates};

/// The files of a TLS listener, all PEM. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    certificate: PathBuf,
    key: PathBuf,
    client_authority: Option<PathBuf>,
}

impl TlsOptions {
    /// The exporter's certificate, with the intermediate ones, and its private key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), client_authority: None }
    }

    /// Accepts only clients with a certificate of these authorities.
    #[must_use]
    pub fn client_authority(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.client_authority = file.into();
        self
    }

    pub(crate) fn has_client_authority(&self) -> bool {
        self.client_authority.is_some()
    }

    /// The files that are read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authority.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }

    /// Reads the files. A certificate that is not valid now is a warning: clocks may be wrong.
    ///
    /// # Errors
    /// The errors of reading the files; `InvalidArgument` for an invalid certificate or key, or a
    /// mismatch.
    pub(crate) fn acceptor(&self) -> Result<ServerTls> {
        let identity = Identity::server(&self.certificate, &self.key)?;
        if let Some(fault) = identity.time_fault() {
            let file = self.certificate.display();
            let fault = match fault {
                CertificateFault::Expired => "has expired",
                _ => "is not valid yet",
            };
            tracing::warn!("the certificate {file} {fault}: clients refuse it");
        }
        let trusted =
            self.client_authority.as_ref().map(|file| TrustedCertificates::from_file(file, None));
        ServerTls::new(identity, trusted.transpose()?)
    }
}
