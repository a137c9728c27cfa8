//! The options that name an exporter and say how to reach it.

use std::path::PathBuf;

use jumpstarter_client::{Address, ConnectOptions};
use jumpstarter_driver_core::Secret;

use crate::environment::Environment;

/// An exporter that runs elsewhere.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Remote {
    /// Use the exporter at this address
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["exporter", "exporter_config"])]
    pub(crate) tls_grpc: Option<Address>,
    /// Connect without TLS
    #[arg(long, requires = "tls_grpc", conflicts_with_all = ["tls_ca", "tls_cert"])]
    pub(crate) tls_grpc_insecure: bool,
    /// Trust these certificate authorities instead of the system's
    #[arg(long, value_name = "PEM", requires = "tls_grpc")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The client's certificate
    #[arg(long, value_name = "PEM", requires_all = ["tls_grpc", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "PEM", requires_all = ["tls_grpc", "tls_cert"])]
    pub(crate) tls_key: Option<PathBuf>,
    /// The exporter's passphrase; JMP_GRPC_PASSPHRASE keeps it out of the process list
    #[arg(long, requires = "tls_grpc")]
    pub(crate) passphrase: Option<Passphrase>,
}

/// A secret from the command line.
#[derive(Clone, Debug)]
pub(crate) struct Passphrase(pub(crate) Secret);

impl std::str::FromStr for Passphrase {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Secret::new(text)))
    }
}

impl Remote {
    /// The passphrase for the exporter: from the command line, else from the environment.
    pub(crate) fn passphrase(&self, environment: &Environment) -> Option<Secret> {
        let variable = || environment.variable("JMP_GRPC_PASSPHRASE")?.into_string().ok();
        let from_environment = || variable().map(Secret::new);
        let given = self.passphrase.clone().map(|Passphrase(secret)| secret);
        given.or_else(from_environment).filter(|secret| !secret.expose().is_empty())
    }

    /// How to connect to the exporter that the command line names, if it names one.
    pub(crate) fn options(&self, environment: &Environment) -> Option<ConnectOptions> {
        let mut options = ConnectOptions::new(self.tls_grpc.clone()?);
        if self.tls_grpc_insecure {
            options = options.insecure();
        }
        if let Some(file) = &self.tls_ca {
            options = options.ca_file(file);
        }
        if let Some((certificate, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) {
            options = options.client_certificate(certificate, key);
        }
        if let Some(passphrase) = self.passphrase(environment) {
            options = options.passphrase(passphrase);
        }
        Some(options)
    }
}
