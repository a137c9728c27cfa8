//! The driver: it reports what its configuration says.

use jumpstarter_driver_core::prelude::*;

use crate::config::VncConfig;
use crate::interface::Vnc;

/// Names the screen behind its child `tcp`.
#[derive(Debug)]
pub struct VncDriver {
    config: VncConfig,
}

impl VncDriver {
    pub(crate) fn new(config: VncConfig) -> Self {
        Self { config }
    }
}

impl Driver for VncDriver {
    interfaces!(Vnc);
}

#[async_trait]
impl Vnc for VncDriver {
    async fn get_default_encrypt(&self) -> Result<bool> {
        Ok(self.config.default_encrypt)
    }
}
