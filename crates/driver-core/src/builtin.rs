//! The built-in driver: the composite, a node that only groups others.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::driver::{Driver, DriverConfig, OpenContext};
use crate::error::Result;

/// The import path of the Python client class of a composite.
pub const COMPOSITE_CLIENT: &str = "jumpstarter_driver_composite.client.CompositeClient";
/// The import path of the Python driver that a composite replaces.
pub(crate) const COMPOSITE_TYPE: &str = "jumpstarter_driver_composite.driver.Composite";

/// Groups the drivers of its `children`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompositeConfig {}

/// A node without interfaces.
#[derive(Debug, Default)]
pub struct Composite;

impl Driver for Composite {
    fn client(&self) -> Option<&str> {
        Some(COMPOSITE_CLIENT)
    }
}

#[async_trait]
impl DriverConfig for CompositeConfig {
    const NAME: &'static str = "composite";
    const PYTHON_NAMES: &'static [&'static str] = &[COMPOSITE_TYPE];
    type Driver = Composite;

    async fn open(self, _: OpenContext) -> Result<Composite> {
        Ok(Composite)
    }
}

crate::register_driver!(CompositeConfig);
