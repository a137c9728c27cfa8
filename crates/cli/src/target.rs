//! Which device a command is for: of a file, of an exporter elsewhere, or the one that the
//! environment names.

use std::io::Write;
use std::time::Duration;

use jumpstarter_client::{ConnectOptions, Exporter};
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Device, Error};

use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::remote::Remote;
use crate::serving::{self, Which};

/// Names an exporter.
const HOST: &str = "JUMPSTARTER_HOST";
/// Names an exporter file.
const FILE: &str = "JMP_EXPORTER_CONFIG";
/// The longest that one call may take, such as the wait for a machine: the user has Ctrl-C, and
/// the loss of an exporter is noticed long before.
const CALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the device is.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    remote: Remote,
}

/// Where the device was found.
pub(crate) enum Found {
    /// In a file: it is to be opened in this process.
    File(Box<ExporterConfig>),
    /// At an exporter.
    Exporter(Box<ConnectOptions>),
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// None for a device of this process.
    pub(crate) exporter: Option<Exporter>,
}

impl Target {
    /// Reads what the command line says, else `JUMPSTARTER_HOST` and what goes with it, else the
    /// file `JMP_EXPORTER_CONFIG`. The warnings about a file go to `warnings`.
    pub(crate) fn find(
        &self,
        environment: &Environment,
        warnings: &mut dyn Write,
    ) -> Result<Found> {
        if let Some(options) = self.remote.options(environment) {
            return Ok(Found::Exporter(Box::new(options.call_timeout(CALL_TIMEOUT))));
        }
        let config = if self.which.is_given() {
            self.which.load(None, warnings)?
        } else if environment.variable(HOST).is_some() {
            let options = ConnectOptions::from_variables(|name| environment.variable(name));
            let options = options.map_err(Fault::Usage)?.call_timeout(CALL_TIMEOUT);
            return Ok(Found::Exporter(Box::new(options)));
        } else if let Some(file) = environment.variable(FILE) {
            serving::load(file.as_ref(), warnings)?
        } else {
            return Err(Fault::usage(
                "which device?",
                "run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or \
                 HOST:PORT, or add --exporter-config FILE, --exporter ALIAS or --tls-grpc HOST:PORT",
            ));
        };
        Ok(Found::File(Box::new(config)))
    }
}

impl Found {
    /// Opens the device, or connects to it.
    pub(crate) async fn open(self) -> jumpstarter_driver_core::Result<Opened> {
        match self {
            Self::File(config) => Ok(Opened { device: config.open().await?, exporter: None }),
            Self::Exporter(options) => {
                let exporter = jumpstarter_client::connect(&options).await?;
                Ok(Opened { device: exporter.device().clone(), exporter: Some(exporter) })
            }
        }
    }
}

impl Opened {
    /// Returns when the exporter is lost, with what to say about it; never for a device in this
    /// process.
    pub(crate) async fn lost(&self) -> Error {
        match &self.exporter {
            Some(exporter) => exporter.lost().await,
            None => std::future::pending().await,
        }
    }
}
