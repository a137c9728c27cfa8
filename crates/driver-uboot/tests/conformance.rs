//! The uboot driver does what every driver must do.

use jumpstarter_driver_power as _;
use jumpstarter_driver_serial as _;
use jumpstarter_driver_testkit::conformance;
use jumpstarter_driver_uboot::{Uboot, UbootConfig};

conformance!(
    UbootConfig, { "prompt": "board# " }, [custom Uboot],
    children: { "power": { "type": "mock-power" }, "serial": { "type": "serial", "config": { "url": "loop://" } } }
);
