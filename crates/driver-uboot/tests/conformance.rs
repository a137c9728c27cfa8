//! The uboot driver does what every driver must do.

use jumpstarter_driver_power as _;
use jumpstarter_driver_serial as _;
use jumpstarter_driver_testkit::{conformance, peer};
use jumpstarter_driver_uboot::{Uboot, UbootConfig};

conformance!(
    UbootConfig, { "prompt": "board# " }, [custom Uboot, uboot],
    children: { "power": { "type": "mock-power" }, "serial": { "type": "serial", "config": { "url": format!("socket://{}", peer::uboot("board# ").await) } } }
);
