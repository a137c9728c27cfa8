//! A driver with two interfaces that both have `off`.

use jumpstarter_driver_core::prelude::*;

/// It has its fault whatever the configuration says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TwinConfig {
    /// Not used.
    #[serde(rename = "fault")]
    _fault: String,
}

#[async_trait]
impl DriverConfig for TwinConfig {
    const NAME: &'static str = "fake-twin";
    type Driver = Twin;
    async fn open(self, _: OpenContext) -> Result<Twin> {
        Ok(Twin)
    }
}
register_driver!(TwinConfig);

/// A circuit breaker.
#[interface(name = "breaker", client = "fake.client.Breaker")]
pub(crate) trait Breaker {
    /// Trips it.
    async fn off(&self) -> Result<()>;
}

pub(crate) struct Twin;

impl Driver for Twin {
    interfaces!(Power, Breaker);
}

#[async_trait]
impl Power for Twin {
    async fn on(&self) -> Result<()> {
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Breaker for Twin {
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}
