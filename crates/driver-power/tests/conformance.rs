//! The power drivers do what every power driver must do.

use jumpstarter_driver_power::MockPowerConfig;
use jumpstarter_driver_testkit::conformance;

conformance!(MockPowerConfig, {}, [power]);
