//! A virtual device that can be destroyed.

use std::sync::Mutex;

use jumpstarter_driver_core::prelude::*;

super::fake!(VirtualConfig, "fake-virtual", VirtualFake);

/// Switches a virtual device.
#[interface(name = "fake-virtual", client = "fake.client.Virtual")]
pub(crate) trait Virtual {
    /// Applies power.
    async fn on(&self) -> Result<()>;
    /// Cuts power, and destroys it.
    async fn off(&self, destroy: Option<bool>) -> Result<()>;
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    On,
    Off,
    Destroyed,
}

pub(crate) struct VirtualFake {
    fault: String,
    state: Mutex<State>,
}

impl VirtualFake {
    pub(crate) fn open(fault: String) -> Self {
        Self { fault, state: Mutex::new(State::Off) }
    }
}

impl Driver for VirtualFake {
    interfaces!(Virtual);
}

#[async_trait]
impl Virtual for VirtualFake {
    async fn on(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if *state == State::Destroyed && self.fault == "stays destroyed" {
            return Err(Error::failed_precondition("it is destroyed"));
        }
        *state = State::On;
        Ok(())
    }

    async fn off(&self, destroy: Option<bool>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if *state == State::Off && self.fault == "off once" {
            return Err(Error::failed_precondition("it is off"));
        }
        *state = if destroy == Some(true) { State::Destroyed } else { State::Off };
        Ok(())
    }
}
