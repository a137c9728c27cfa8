//! Generic power drivers.
//!
//! `mock-power` ([`MockPower`]) switches nothing and remembers its position: for trying out
//! exporter files, and as the first driver to read.

mod mock;

pub use mock::{MockPower, MockPowerConfig};
