//! The relay does what every power driver must do.

mod support;

use acme_relay::RelayConfig;
use jumpstarter_driver_testkit::conformance;
use support::fake_board;

conformance!(RelayConfig, { "port": fake_board(), "channel": 1 }, [power]);
