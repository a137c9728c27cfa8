//! The device of a command: from a file, of an exporter elsewhere, or from the environment.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_client::lab::Lease;
use jumpstarter_client::{ConnectOptions, Exporter};
use jumpstarter_config::{ClientConfig, ExporterConfig};
use jumpstarter_driver_core::{Device, Error, suggest};

use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::lab::{Ask, Choice, Leasing};
use crate::remote::Remote;
use crate::serving::{self, Which};

/// The variable that names an exporter.
const HOST: &str = "JUMPSTARTER_HOST";
/// The variable that names an exporter file.
const FILE: &str = "JMP_EXPORTER_CONFIG";
/// The longest call, such as a wait for a machine. The user has Ctrl-C, and the loss of an exporter
/// is noticed much earlier.
const CALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The options that name the device.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

/// Where the device was found.
pub(crate) enum Found {
    /// A file, whose device is to be opened in this process.
    File(Box<ExporterConfig>),
    /// The options to connect to an exporter.
    Exporter(Box<ConnectOptions>),
    /// A device that is to be leased.
    Leased(Box<Leasing>),
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// The connection; `None` for a local device.
    pub(crate) exporter: Option<Exporter>,
}

impl Target {
    /// Whether the command line names a device.
    pub(crate) fn is_given(&self) -> bool {
        self.remote.tls_grpc.is_some() || self.which.is_given()
    }

    /// How the command line says to reach an exporter.
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Reads what the command line says. The warnings about a file go to `warnings`.
    pub(crate) fn find_given(
        &self,
        environment: &Environment,
        warnings: &mut dyn Write,
    ) -> Result<Found> {
        match self.remote.options(environment) {
            Some(options) => Ok(Found::Exporter(Box::new(options))),
            None => Ok(Found::File(Box::new(self.which.load(None, warnings)?))),
        }
    }

    /// Warns of the options of a lab, which have no effect on a device without one.
    pub(crate) fn warn_of_lab(&self, environment: &Environment) {
        let given = self.ask.given();
        if !given.is_empty() {
            let names = suggest::list(given);
            environment.report(format_args!(
                "warning: {names} only work with a controller, and have no effect here"
            ));
        }
    }

    /// Finds the device: from the command line, else from `JUMPSTARTER_HOST` and its companions,
    /// else that of the lease `JMP_LEASE` or of a new one with the labels `JMP_SELECTOR`, else from
    /// the file `JMP_EXPORTER_CONFIG`, else that of the client's active lease. Warnings about a
    /// file go to `warnings`.
    pub(crate) fn find(
        &self,
        environment: &Environment,
        warnings: &mut dyn Write,
    ) -> Result<Found> {
        let found = if self.is_given() {
            self.warn_of_lab(environment);
            self.find_given(environment, warnings)?
        } else if let Some(choice) = self.ask.named() {
            self.leased(choice, &self.ask.who.config(environment)?, environment)?
        } else if environment.variable(HOST).is_some() {
            let options = ConnectOptions::from_variables(|name| environment.variable(name));
            Found::Exporter(Box::new(options.map_err(Fault::Usage)?))
        } else if let Some(choice) = self.ask.choice(environment) {
            self.leased(choice, &self.ask.who.config(environment)?, environment)?
        } else if let Some(file) = environment.variable(FILE) {
            Found::File(Box::new(serving::load(file.as_ref(), warnings)?))
        } else if let Some(config) = self.ask.some_client(environment)? {
            self.leased(Choice::Active, &config, environment)?
        } else {
            return Err(Fault::usage(
                "which device?",
                "run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or \
                 HOST:PORT, or add --exporter-config FILE, --exporter ALIAS, --tls-grpc HOST:PORT, or \
                 --selector LABELS for a device of a lab",
            ));
        };
        Ok(match found {
            Found::Exporter(options) => {
                Found::Exporter(Box::new(options.call_timeout(CALL_TIMEOUT)))
            }
            found => found,
        })
    }

    fn leased(
        &self,
        choice: Choice,
        config: &ClientConfig,
        environment: &Environment,
    ) -> Result<Found> {
        Ok(Found::Leased(Box::new(self.ask.leasing(choice, config, environment)?)))
    }
}

impl Found {
    /// Opens the device, or connects to it.
    pub(crate) async fn open(self) -> Result<Opened> {
        match self {
            Self::File(config) => Ok(Opened { device: config.open().await?, exporter: None }),
            Self::Exporter(options) => {
                let exporter = jumpstarter_client::connect(&options).await?;
                Ok(Opened { device: exporter.device().clone(), exporter: Some(exporter) })
            }
            Self::Leased(leasing) => {
                let open = async |lease: Arc<Lease>| {
                    lease.open_with(|options| options.call_timeout(CALL_TIMEOUT)).await
                };
                let (_, exporter) = leasing.connected(open).await?;
                Ok(Opened { device: exporter.device().clone(), exporter: Some(exporter) })
            }
        }
    }
}

impl Opened {
    /// Returns the error when the exporter is lost. Never returns for a local device.
    pub(crate) async fn lost(&self) -> Error {
        match &self.exporter {
            Some(exporter) => exporter.lost().await,
            None => std::future::pending().await,
        }
    }
}
