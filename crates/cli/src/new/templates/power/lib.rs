//! A relay that a file of the exporter's machine switches, such as a GPIO line in sysfs.

use jumpstarter::prelude::*;

/// A relay that a file switches: it takes 1 for on and 0 for off.
#[config(crate = jumpstarter)]
#[derive(Debug)]
pub struct AcmeLampConfig {
    /// The file, such as `/sys/class/gpio/gpio17/value`.
    file: HostPath,
    /// Whether 0 means on, and 1 off.
    #[serde(default)]
    inverted: bool,
}

/// The driver of [`AcmeLampConfig`].
#[derive(Debug)]
pub struct AcmeLamp {
    file: HostPath,
    inverted: bool,
}

#[async_trait]
impl DriverConfig for AcmeLampConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = AcmeLamp;

    async fn open(self, _: OpenContext) -> Result<AcmeLamp> {
        Ok(AcmeLamp {
            file: self.file,
            inverted: self.inverted,
        })
    }
}
register_driver!(AcmeLampConfig);

impl Driver for AcmeLamp {
    interfaces!(Power);
}

#[async_trait]
impl Power for AcmeLamp {
    async fn on(&self) -> Result<()> {
        self.switch(true).await
    }

    async fn off(&self) -> Result<()> {
        self.switch(false).await
    }
}

impl AcmeLamp {
    async fn switch(&self, on: bool) -> Result<()> {
        let value = if on != self.inverted { "1" } else { "0" };
        let file = self.file.located().await;
        let written = tokio::fs::write(&file, value).await;
        written.with_context(|| format!("writing {value} to {}", file.display()))
    }
}
