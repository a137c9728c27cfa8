//! Writes images to a file or a block device of the exporter's machine.

use jumpstarter::flasher::{WriteOptions, read_image, write_image};
use jumpstarter::prelude::*;

/// A file or block device of the exporter's machine that takes images.
#[config(crate = jumpstarter)]
#[derive(Debug)]
pub struct AcmeLampConfig {
    /// The file or block device.
    medium: HostPath,
}

/// The driver of [`AcmeLampConfig`].
#[derive(Debug)]
pub struct AcmeLamp {
    medium: HostPath,
}

#[async_trait]
impl DriverConfig for AcmeLampConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = AcmeLamp;

    async fn open(self, _: OpenContext) -> Result<AcmeLamp> {
        Ok(AcmeLamp {
            medium: self.medium,
        })
    }
}
register_driver!(AcmeLampConfig);

impl Driver for AcmeLamp {
    interfaces!(Flasher);
}

#[async_trait]
impl Flasher for AcmeLamp {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        refuse_name(target)?;
        let medium = self.medium.located().await;
        write_image(source, &medium, WriteOptions::default())
            .await
            .map(drop)
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        refuse_name(partition)?;
        read_image(&self.medium.located().await, target)
            .await
            .map(drop)
    }
}

fn refuse_name(target: Option<String>) -> Result<()> {
    match target {
        Some(name) => Err(
            Error::invalid_argument(format!("there is no target `{name}`"))
                .with_hint("name none: there is one medium"),
        ),
        None => Ok(()),
    }
}
