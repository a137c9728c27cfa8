//! Configurations that say too little.

use jumpstarter_driver_core::prelude::*;

/// A lamp.
#[config]
pub struct LampConfig {
    /// Its serial port.
    port: String,
    channel: u8,
    colour: String,
}

/// A colour.
#[config]
pub type Colour = String;

/// A lamp.
#[data(name = "lamp")]
pub struct Lamp {}

fn main() {}
