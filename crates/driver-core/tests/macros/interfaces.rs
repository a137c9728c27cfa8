//! Traits that are no interfaces.

use jumpstarter_driver_core::prelude::*;

#[interface]
pub trait Lamp {
    /// How many there are.
    const COUNT: u32;
}

/// A lamp of any kind.
#[interface(name = "lamp", client = "acme.client.LampClient")]
pub trait AnyLamp<T> {
    /// Lights it.
    async fn light(&self) -> Result<()>;
}

/// A lamp with a word too many.
#[interface(name = "lamp", client = "acme.client.LampClient", colour = "red")]
pub trait RedLamp {
    /// Lights it.
    async fn light(&self) -> Result<()>;
}

/// A lamp.
#[interface(name = "lamp", client = "acme.client.LampClient")]
pub struct LampBox;

fn main() {}
