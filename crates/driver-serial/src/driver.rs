//! From the configuration of `serial` to the port.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, SerialSettings};

use crate::address::SerialAddress;
use crate::config::SerialConfig;
use crate::kept;
use crate::port::SerialPort;

#[async_trait]
impl DriverConfig for SerialConfig {
    const NAME: &'static str = "serial";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_pyserial.driver.PySerial"];
    type Driver = SerialPort;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut problems = wrong_settings(self.settings());
        if self.cps.is_some_and(|cps| cps != 0.0 && !(cps.is_finite() && cps >= 0.001)) {
            let problem = "must be at least 0.001 characters per second, or 0 for no limit";
            problems.push(ConfigProblem::new("cps", problem));
        }
        if self.log_between_leases && self.log_file.is_none() {
            problems.push(ConfigProblem::new("log_between_leases", "needs `log_file`"));
        }
        problems
    }

    async fn open(self, _: OpenContext) -> Result<SerialPort> {
        if let Some(port) = kept::take(&self) {
            port.begin_anew();
            return Ok(port);
        }
        let probe = self.check_present
            && matches!(self.url, SerialAddress::Device(_) | SerialAddress::Grep(_));
        let port = SerialPort::new(self);
        port.open_driver(probe).await?;
        Ok(port)
    }
}

/// What no serial line has, by field.
pub(crate) fn wrong_settings(settings: SerialSettings) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    if settings.baudrate == Some(0) {
        problems.push(ConfigProblem::new("baudrate", "must be more than 0"));
    }
    if settings.data_bits.is_some_and(|bits| !(5..=8).contains(&bits)) {
        problems.push(ConfigProblem::new("data_bits", "must be 5, 6, 7 or 8"));
    }
    if settings.stop_bits.is_some_and(|bits| !(1..=2).contains(&bits)) {
        problems.push(ConfigProblem::new("stop_bits", "must be 1 or 2"));
    }
    problems
}

register_driver!(SerialConfig);
