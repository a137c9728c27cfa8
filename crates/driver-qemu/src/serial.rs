//! The child `console`: the machine's serial console.

use jumpstarter_driver_core::prelude::*;

use crate::vm::Vm;

/// The console of a machine as a serial port.
#[derive(Debug)]
pub(crate) struct QemuConsole(pub(crate) Vm);

impl Driver for QemuConsole {
    interfaces!(Serial);
}

#[async_trait]
impl Serial for QemuConsole {
    async fn connect(&self) -> Result<Channel> {
        self.0.open_console()
    }

    async fn close(&self) -> Result<()> {
        self.0.0.console.hang_up();
        Ok(())
    }
}
