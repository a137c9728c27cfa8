//! Which device a command is for: of a file, of an exporter elsewhere, or the one that the
//! environment names.

use std::io::Write;

use anyhow::Result;
use jumpstarter_client::{ConnectOptions, Exporter};
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Device, Error};

use crate::j::fault::Fault;
use crate::remote::Remote;
use crate::serving::{self, Which};

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
    exporter: Option<Exporter>,
}

impl Target {
    /// Reads what the command line says, else `JUMPSTARTER_HOST` and what goes with it, else the
    /// file `JMP_EXPORTER_CONFIG`. A file's faults are printed; there is nothing then.
    pub(crate) fn find(&self, err: &mut dyn Write) -> Result<Option<Found>> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(options) = self.remote.options() {
            return Ok(Some(Found::Exporter(Box::new(options))));
        }
        if self.which.is_given() {
            return Ok(self.which.load(None, err)?.map(|config| Found::File(Box::new(config))));
        }
        if variable("JUMPSTARTER_HOST").is_some() {
            return Ok(Some(Found::Exporter(Box::new(ConnectOptions::from_env()?))));
        }
        let Some(file) = variable("JMP_EXPORTER_CONFIG") else {
            let hint = "run it in `jmp shell`, or add --exporter-config FILE, --exporter ALIAS or --tls-grpc HOST:PORT";
            return Err(Fault::usage("which device?", hint));
        };
        Ok(serving::load(file.as_ref(), err)?.map(|config| Found::File(Box::new(config))))
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
    /// Returns when the exporter is gone; never for a device in this process.
    pub(crate) async fn lost(&self) -> Error {
        match &self.exporter {
            Some(exporter) => exporter.lost().await,
            None => std::future::pending().await,
        }
    }
}
