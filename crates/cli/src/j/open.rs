//! Which device: that of an exporter, or one of this process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_config::ExporterConfig;
use jumpstarter_daemon::{Log, LogFormat};
use jumpstarter_driver_core::{Device, Error};

use super::arguments::Early;
use super::fault::Fault;

/// The longest that one call may take, such as the wait for a machine: the user has Ctrl-C, and an
/// exporter that is gone is noticed long before.
const CALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Names an exporter.
const HOST: &str = "JUMPSTARTER_HOST";

/// An open device.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// None for a device of this process.
    pub(crate) exporter: Option<Exporter>,
}

/// Opens the device that the command line or the environment names.
pub(crate) async fn open(early: &Early) -> Result<Opened> {
    Log::install(early.log_level, LogFormat::Text)?;
    match file(early) {
        Some(config) => in_process(&config?).await,
        None if variable(HOST).is_some() => of_exporter().await,
        None if early.is_file_late => Err(Fault::usage(
            "which device?",
            "--exporter-config comes first: `j --exporter-config FILE PATH… VERB`",
        )),
        None => Err(Fault::usage(
            "which device?",
            "run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, or add \
             --exporter-config FILE",
        )),
    }
}

/// The path of the exporter file, where the device would be opened in this process.
fn path(early: &Early) -> Option<PathBuf> {
    match &early.exporter_config {
        Some(file) => Some(file.clone()),
        None if variable(HOST).is_some() => None,
        None => variable("JMP_EXPORTER_CONFIG").map(PathBuf::from),
    }
}

/// The exporter file of the device, where it would be opened in this process.
pub(crate) fn file(early: &Early) -> Option<Result<ExporterConfig>> {
    let file = path(early)?;
    let faults = |faults: jumpstarter_config::ConfigFaults| {
        let message = format!("the exporter file is not right\n{faults}");
        Fault::Unreachable(Error::invalid_argument(message)).into()
    };
    Some(ExporterConfig::load(file).map_err(faults))
}

/// Whether the device would be opened in this process.
pub(crate) fn is_in_process(early: &Early) -> bool {
    path(early).is_some()
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

async fn of_exporter() -> Result<Opened> {
    let options = ConnectOptions::from_env().map_err(Fault::Usage)?.call_timeout(CALL_TIMEOUT);
    let exporter = connect(&options).await.map_err(Fault::Unreachable)?;
    Ok(Opened { device: exporter.device().clone(), exporter: Some(exporter) })
}

async fn in_process(config: &ExporterConfig) -> Result<Opened> {
    let device = config.open().await.map_err(Fault::Unreachable)?;
    Ok(Opened { device, exporter: None })
}
