//! The switch of a virtual device, which can be destroyed.

use jumpstarter_driver_core::prelude::*;

/// Switches a virtual device, such as a virtual machine of another host or of a cloud.
///
/// Callers of [`Power`] can use it, too: `off` destroys nothing then.
#[interface(
    name = "virtual-power",
    client = "jumpstarter_driver_power.client.VirtualPowerClient",
    native
)]
pub trait VirtualPower {
    /// Applies power. A device that was destroyed is made again.
    async fn on(&self) -> Result<()>;

    /// Cuts power, and then destroys the device if `destroy` says so. Idempotent.
    async fn off(&self, destroy: Option<bool>) -> Result<()>;

    /// Streams readings of the power meter until dropped. `Unimplemented` without a meter.
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        Err(Error::unimplemented("this virtual device measures nothing"))
    }
}
