//! Which device: that of an exporter, or one of this process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_driver_core::{Device, Error, ExporterConfig};
use jumpstarter_exporter::{LogFormat, logs};

use super::arguments::Early;
use super::fault::Fault;

/// The longest that one call may take, such as the wait for a machine: the user has Ctrl-C, and an exporter that is
/// gone is noticed long before.
const CALL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// An open device.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// None for a device of this process.
    pub(crate) exporter: Option<Exporter>,
}

/// Opens the device that the command line or the environment names.
pub(crate) async fn open(early: &Early) -> Result<Opened> {
    logs::install(early.log_level, LogFormat::Text)?;
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match (&early.exporter_config, set("JUMPSTARTER_HOST"), set("JMP_EXPORTER_CONFIG")) {
        (Some(file), _, _) => in_process(file).await,
        (None, Some(_), _) => of_exporter().await,
        (None, None, Some(file)) => in_process(&PathBuf::from(file)).await,
        (None, None, None) => Err(Fault::usage(
            "which device?",
            "run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, or add \
             --exporter-config FILE",
        )),
    }
}

/// Whether the device would be opened in this process.
pub(crate) fn is_in_process(early: &Early) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    early.exporter_config.is_some() || !set("JUMPSTARTER_HOST") && set("JMP_EXPORTER_CONFIG")
}

async fn of_exporter() -> Result<Opened> {
    let options = ConnectOptions::from_env().map_err(Fault::Usage)?.call_timeout(CALL_TIMEOUT);
    let exporter = connect(&options).await.map_err(Fault::Unreachable)?;
    Ok(Opened { device: exporter.device().clone(), exporter: Some(exporter) })
}

async fn in_process(file: &Path) -> Result<Opened> {
    let faults = |faults: jumpstarter_driver_core::config::ConfigFaults| {
        let message = format!("the exporter file is not right\n{faults}");
        Fault::Unreachable(Error::invalid_argument(message))
    };
    let config = ExporterConfig::load(file).map_err(faults)?;
    let device = Device::open(&config).await.map_err(Fault::Unreachable)?;
    Ok(Opened { device, exporter: None })
}
