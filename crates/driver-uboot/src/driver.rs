//! The driver: it reports what its configuration says.

use jumpstarter_driver_core::prelude::*;

use crate::config::UbootConfig;
use crate::interface::Uboot;

/// Knows the prompt of a board with U-Boot.
#[derive(Debug)]
pub struct UbootDriver {
    config: UbootConfig,
}

impl UbootDriver {
    pub(crate) fn new(config: UbootConfig) -> Self {
        Self { config }
    }
}

impl Driver for UbootDriver {
    interfaces!(Uboot);
}

#[async_trait]
impl Uboot for UbootDriver {
    async fn get_prompt(&self) -> Result<String> {
        Ok(self.config.prompt.clone())
    }
}
