//! TLS for TCP listeners: the exporter's certificate, and who may connect.

use std::path::PathBuf;

use jumpstarter_driver_core::Result;
use jumpstarter_protocol::{Identity, ServerTls, TrustedCertificates};

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

impl TlsOptions {
    /// The files that are read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authority.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }

    /// # Errors
    /// As the files' reading; `InvalidArgument` for what is not a certificate or key, or where they
    /// do not match.
    pub(crate) fn acceptor(&self) -> Result<ServerTls> {
        let identity = Identity::server(&self.certificate, &self.key)?;
        let trusted =
            self.client_authority.as_ref().map(|file| TrustedCertificates::from_file(file, None));
        ServerTls::new(identity, trusted.transpose()?)
    }
}
