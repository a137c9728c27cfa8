//! `mock-power`: a power switch that switches nothing and remembers its position.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream;
use jumpstarter_driver_core::prelude::*;

/// A power switch that switches nothing; its meter reads 0 V and 0 A, then 5 V and 2 A, and ends.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MockPowerConfig {}

/// A power switch that switches nothing and remembers its position, off at first.
#[derive(Debug, Default)]
pub struct MockPower {
    on: AtomicBool,
}

impl MockPower {
    /// A switch that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its position.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    fn switch(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        // In the words of the Python driver.
        tracing::info!("power {}", if on { "on" } else { "off" });
    }
}

#[async_trait]
impl DriverConfig for MockPowerConfig {
    const NAME: &'static str = "mock-power";
    const PYTHON_NAMES: &'static [&'static str] = &[
        "jumpstarter_driver_power.driver.MockPower",
        "jumpstarter_driver_power.driver.SyncMockPower",
    ];
    type Driver = MockPower;

    async fn open(self, _: OpenContext) -> Result<MockPower> {
        Ok(MockPower::new())
    }
}
register_driver!(MockPowerConfig);

#[async_trait]
impl Driver for MockPower {
    interfaces!(Power);

    async fn reset(&self) -> Result<()> {
        if self.is_on() {
            self.switch(false);
        }
        Ok(())
    }
}

#[async_trait]
impl Power for MockPower {
    async fn on(&self) -> Result<()> {
        self.switch(true);
        Ok(())
    }

    async fn off(&self) -> Result<()> {
        self.switch(false);
        Ok(())
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let readings = [(0.0, 0.0), (5.0, 2.0)]
            .map(|(voltage, current)| Ok(PowerReading { voltage, current }));
        Ok(stream::iter(readings).boxed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use jumpstarter_driver_core::Registry;

    use super::*;

    #[tokio::test]
    async fn remembers_its_position_and_is_off_after_a_reset() {
        let power = MockPower::new();
        assert!(!power.is_on());
        for _ in 0..2 {
            power.on().await.unwrap();
            assert!(power.is_on());
        }
        power.off().await.unwrap();
        assert!(!power.is_on());
        power.on().await.unwrap();
        power.reset().await.unwrap();
        assert!(!power.is_on());
    }

    #[tokio::test]
    async fn reads_what_the_python_mock_reads() {
        for name in [
            "mock-power",
            "jumpstarter_driver_power.driver.MockPower",
            "jumpstarter_driver_power.driver.SyncMockPower",
        ] {
            let entry = Registry::linked().find(name).unwrap();
            let driver =
                (entry.open)(serde_json::json!({}), OpenContext::at("power")).await.unwrap();
            let device = Device::of_shared_driver(driver);
            let readings: Vec<PowerReading> = device
                .get::<dyn Power>("")
                .unwrap()
                .read()
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap();
            let expected = [(0.0, 0.0), (5.0, 2.0)]
                .map(|(voltage, current)| PowerReading { voltage, current });
            assert_eq!(readings, expected);
        }
    }

    #[tokio::test]
    async fn refuses_configuration_that_it_does_not_know() {
        let entry = Registry::linked().find("mock-power").unwrap();
        let opened =
            (entry.open)(serde_json::json!({"voltage": 5}), OpenContext::at("power")).await;
        let error = opened.err().expect("an unknown field");
        assert!(error.report().contains("voltage"), "{error:?}");
    }
}
