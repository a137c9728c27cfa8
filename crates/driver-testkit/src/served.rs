//! A device over a real exporter, for tests of remote callers.

use std::time::Duration;

use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::{Device, DriverConfig, Error, OpenContext, Result};
use jumpstarter_exporter::{Access, Address, Listener, Server, Session, SessionOptions};
use serde_json::Value;
use tempfile::TempDir;

/// How long calls may take to end when the exporter stops.
const GRACE: Duration = Duration::from_secs(5);

/// A device that an exporter in this process serves on a Unix socket. Dropping it stops the
/// exporter; [`close`](Self::close) closes the device too.
#[derive(Debug)]
pub struct Served {
    remote: Device,
    local: Device,
    server: Server,
    _folder: TempDir,
}

/// Serves a device, and connects to it.
///
/// ```
/// # use jumpstarter_driver_core::prelude::*;
/// # use jumpstarter_driver_testkit::served;
/// # struct Switch;
/// # impl Driver for Switch {
/// #     interfaces!(Power);
/// # }
/// # #[async_trait]
/// # impl Power for Switch {
/// #     async fn on(&self) -> Result<()> { Ok(()) }
/// #     async fn off(&self) -> Result<()> { Ok(()) }
/// # }
/// # #[tokio::main] async fn main() -> Result<()> {
/// let served = served(Device::of_driver(Switch)).await?;
/// served.device().get::<dyn Power>("")?.on().await?;
/// served.close().await
/// # }
/// ```
///
/// # Errors
/// The errors of the exporter and of the client.
pub async fn served(device: Device) -> Result<Served> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("exporter");
    let session = Session::new(device.clone(), SessionOptions::default())?;
    let mut server = Server::new(&session);
    let listener = Listener::bind(&Address::Unix(socket.clone())).await?;
    server.start(listener, Access::default().prepare()?);
    let options = ConnectOptions::new(jumpstarter_client::Address::Unix(socket));
    let remote = connect(&options).await?.device().clone();
    Ok(Served { remote, local: device, server, _folder: folder })
}

/// Opens a driver with the configuration of an exporter file, as a separate device.
///
/// # Errors
/// `InvalidArgument` for a wrong configuration; the driver's errors.
pub async fn open<C: DriverConfig>(configuration: Value) -> Result<Device> {
    let wrong = |why: String| Error::invalid_argument(format!("the configuration: {why}"));
    let config: C =
        serde_json::from_value(configuration).map_err(|error| wrong(error.to_string()))?;
    if let Some(problem) = config.check().into_iter().next() {
        return Err(wrong(format!("{}: {}", problem.field, problem.message)));
    }
    Ok(Device::of_driver(config.open(OpenContext::at("subject")).await?))
}

impl Served {
    /// The device, as a remote client has it.
    pub fn device(&self) -> &Device {
        &self.remote
    }

    /// Stops the exporter and closes the device.
    ///
    /// # Errors
    /// The errors of closing the drivers.
    pub async fn close(self) -> Result<()> {
        drop(self.remote);
        self.server.stop(tokio::time::sleep(GRACE)).await;
        self.local.close().await
    }
}
