//! Opens a device from the environment or at an address.

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Device, Error, Result};

use crate::{ConnectOptions, connect};

const HOST: &str = "JUMPSTARTER_HOST";
const CONFIG: &str = "JMP_EXPORTER_CONFIG";

/// Opens devices, local or remote.
pub trait DeviceExt: Sized {
    /// The device that the environment names: of the exporter at `JUMPSTARTER_HOST` (see
    /// [`ConnectOptions::from_env`]), else of the lease `JMP_LEASE`, else of a new lease with the
    /// labels `JMP_SELECTOR`, else a local one, from the exporter file `JMP_EXPORTER_CONFIG`.
    ///
    /// A local device has the drivers that the program links, and must be [closed](Device::close).
    /// Closing a device of a new lease releases the lease; without that it is released when the
    /// device and its handles are dropped, or when it ends by itself. The lab is that of
    /// `lab::Lab::from_env`. Nothing is leased without one of the two variables.
    ///
    /// # Errors
    /// `FailedPrecondition` if none is set; the errors of [`connect`](crate::connect()), of leases
    /// and of opening drivers.
    fn from_env() -> impl Future<Output = Result<Self>> + Send;

    /// The device of the exporter at an [`Address`](crate::Address), with everything else from the
    /// environment.
    ///
    /// # Errors
    /// As [`connect`](crate::connect()).
    fn connect(address: &str) -> impl Future<Output = Result<Self>> + Send;
}

impl DeviceExt for Device {
    async fn from_env() -> Result<Self> {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_set(HOST) {
            return Ok(connect(&ConnectOptions::from_env()?).await?.device().clone());
        }
        #[cfg(feature = "lab")]
        if let Some(wanted) = crate::lab::Wanted::from_variables(|name| std::env::var_os(name)) {
            return wanted.await;
        }
        if is_set(CONFIG) {
            let file = std::env::var_os(CONFIG).unwrap_or_default();
            return ExporterConfig::load(file)?.open().await;
        }
        let message = format!("none of {HOST}, JMP_LEASE, JMP_SELECTOR and {CONFIG} is set");
        Err(Error::failed_precondition(message).with_hint(format!(
            "set {CONFIG} to an exporter file to have its device in this process, {HOST} to an exporter's socket or \
             HOST:PORT, as `jmp shell` does, or JMP_SELECTOR to the labels of a device of a lab"
        )))
    }

    async fn connect(address: &str) -> Result<Self> {
        Ok(connect(&ConnectOptions::to(address)?).await?.device().clone())
    }
}
