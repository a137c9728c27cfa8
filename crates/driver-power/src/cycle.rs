//! Switching off and on again, on the exporter's side.

use jumpstarter_driver_core::prelude::*;

/// Switches a device off and on again without its client: a connection that breaks meanwhile does
/// not leave the device off.
#[interface(name = "power-cycle", client = "jumpstarter_driver_power.client.PowerClient", native)]
pub trait PowerCycle {
    /// Cuts power, waits for `wait` seconds, and applies power again. A switch that does this
    /// itself may wait for another time.
    async fn cycle(&self, wait: Option<f64>) -> Result<()>;
}
