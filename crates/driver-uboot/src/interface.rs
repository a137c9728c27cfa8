//! The interface of drivers that know a board with U-Boot.

use jumpstarter_driver_core::prelude::*;

/// Knows the prompt of the U-Boot behind its children `power` and `serial`.
#[interface(name = "uboot", client = "jumpstarter_driver_uboot.client.UbootConsoleClient")]
pub trait Uboot {
    /// The prompt, such as `"\n=>"`.
    async fn get_prompt(&self) -> Result<String>;
}
