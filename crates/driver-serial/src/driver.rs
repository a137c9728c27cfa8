//! From the configuration of `serial` to the port.

use jumpstarter_driver_core::ConfigProblem;
use jumpstarter_driver_core::prelude::*;

use crate::address::SerialAddress;
use crate::config::SerialConfig;
use crate::port::SerialPort;
use crate::present;

#[async_trait]
impl DriverConfig for SerialConfig {
    const NAME: &'static str = "serial";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_pyserial.driver.PySerial"];
    type Driver = SerialPort;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.baudrate == 0 {
            problems.push(ConfigProblem::new("baudrate", "must be more than 0"));
        }
        if self.cps.is_some_and(|cps| cps != 0.0 && !(cps.is_finite() && cps >= 0.001)) {
            let problem = "must be at least 0.001 characters per second, or 0 for no limit";
            problems.push(ConfigProblem::new("cps", problem));
        }
        problems
    }

    async fn open(self, _: OpenContext) -> Result<SerialPort> {
        if let SerialAddress::Device(path) = &self.url
            && self.check_present
        {
            let path = path.located().await;
            tokio::fs::metadata(&path).await.map_err(|error| present::missing(&path, error))?;
        }
        let port = SerialPort::new(self);
        port.hold().await?;
        Ok(port)
    }
}

register_driver!(SerialConfig);
