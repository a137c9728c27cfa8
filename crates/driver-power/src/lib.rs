//! Generic power drivers.
//!
//! `mock-power` ([`MockPower`]) switches nothing and remembers that it was asked to: for trying out
//! exporter files, and as the first driver to read.

mod mock;

pub use mock::{MockPower, MockPowerConfig};
