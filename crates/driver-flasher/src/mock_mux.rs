//! Storage multiplexers without a device, for trials: the medium is a private file.

use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::storage::{dump_medium, flash_medium};

use crate::mock::{DEFAULT_TARGET, MockFlasher};
use crate::read::read_image;

/// The client class of a multiplexer that flashes too.
pub(crate) const FLASHER_CLIENT: &str = "jumpstarter_driver_opendal.client.StorageMuxFlasherClient";

/// Configuration of `mock-storage-mux`: a medium that keeps written bytes until the driver is
/// closed. It is empty at first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MockStorageMuxConfig {}

#[async_trait]
impl DriverConfig for MockStorageMuxConfig {
    const NAME: &'static str = "mock-storage-mux";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_opendal.driver.MockStorageMux"];
    type Driver = MockStorageMux;

    async fn open(self, _: OpenContext) -> Result<MockStorageMux> {
        Ok(MockStorageMux(MockFlasher::open().await?))
    }
}
register_driver!(MockStorageMuxConfig);

/// The driver of [`MockStorageMuxConfig`].
#[derive(Debug)]
pub struct MockStorageMux(MockFlasher);

#[async_trait]
impl Driver for MockStorageMux {
    interfaces!(StorageMux);

    async fn reset(&self) -> Result<()> {
        self.0.reset().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[async_trait]
impl StorageMux for MockStorageMux {
    async fn host(&self) -> Result<()> {
        Ok(())
    }

    async fn dut(&self) -> Result<()> {
        Ok(())
    }

    async fn off(&self) -> Result<()> {
        Ok(())
    }

    async fn write(&self, source: ImageSource) -> Result<()> {
        self.0.flash(source, None).await
    }

    async fn read(&self, target: ImageSink) -> Result<()> {
        let written = self.0.image(DEFAULT_TARGET);
        read_image(written.as_deref().unwrap_or(Path::new("/dev/null")), target).await.map(drop)
    }
}

/// Configuration of `mock-storage-mux-flasher`: as `mock-storage-mux`, and a flasher that takes the
/// medium, writes or reads it, and gives it back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MockStorageMuxFlasherConfig {}

#[async_trait]
impl DriverConfig for MockStorageMuxFlasherConfig {
    const NAME: &'static str = "mock-storage-mux-flasher";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_opendal.driver.MockStorageMuxFlasher"];
    type Driver = MockStorageMuxFlasher;

    async fn open(self, _: OpenContext) -> Result<MockStorageMuxFlasher> {
        Ok(MockStorageMuxFlasher(Arc::new(MockStorageMux(MockFlasher::open().await?))))
    }
}
register_driver!(MockStorageMuxFlasherConfig);

/// The driver of [`MockStorageMuxFlasherConfig`].
#[derive(Debug)]
pub struct MockStorageMuxFlasher(Arc<MockStorageMux>);

#[async_trait]
impl Driver for MockStorageMuxFlasher {
    interfaces!(StorageMux, Flasher);

    fn client(&self) -> Option<&str> {
        Some(FLASHER_CLIENT)
    }

    async fn reset(&self) -> Result<()> {
        self.0.reset().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[async_trait]
impl StorageMux for MockStorageMuxFlasher {
    async fn host(&self) -> Result<()> {
        self.0.host().await
    }

    async fn dut(&self) -> Result<()> {
        self.0.dut().await
    }

    async fn off(&self) -> Result<()> {
        self.0.off().await
    }

    async fn write(&self, source: ImageSource) -> Result<()> {
        self.0.write(source).await
    }

    async fn read(&self, target: ImageSink) -> Result<()> {
        self.0.read(target).await
    }
}

#[async_trait]
impl Flasher for MockStorageMuxFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        refuse_target(target)?;
        flash_medium(self.0.clone(), source).await
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        refuse_target(partition)?;
        dump_medium(self.0.clone(), target).await
    }

    async fn targets(&self) -> Result<FlashTargets> {
        Ok(FlashTargets::default())
    }
}

pub(crate) fn refuse_target(target: Option<String>) -> Result<()> {
    let Some(name) = target else { return Ok(()) };
    Err(Error::invalid_argument(format!("there is no target `{name}`"))
        .with_hint("name no target: a storage multiplexer has one medium"))
}
