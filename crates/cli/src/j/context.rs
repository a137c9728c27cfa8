//! The context of a verb: device, driver and output.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Device, ErrorKind, Interface, Node};

use super::interrupt::Interrupts;
use super::output::Output;
use crate::fault::{Fault, Result};
use crate::target::Opened;

/// How long a failed call waits for the loss of the connection to be noticed.
const GRACE: Duration = Duration::from_secs(1);

/// The device, the path of the verb's driver, and how to print.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) opened: Opened,
    /// The driver's path; empty for the root.
    pub(crate) path: String,
    /// Prints answers and notes.
    pub(crate) output: Output,
    interrupts: Interrupts,
}

impl Context {
    pub(crate) fn new(
        opened: Opened,
        path: String,
        output: Output,
        interrupts: Interrupts,
    ) -> Self {
        Self { opened, path, output, interrupts }
    }

    /// The device that the command is for, opened or connected.
    pub(crate) fn device(&self) -> &Device {
        &self.opened.device
    }

    /// One of the driver's interfaces. Fails if the driver lacks it.
    pub(crate) fn get<I: Interface + ?Sized>(&self) -> Result<Arc<I>> {
        Ok(self.device().get::<I>(&self.path)?)
    }

    /// The driver's node in the tree.
    pub(crate) fn node(&self) -> Result<&Node> {
        Ok(self.device().node(&self.path)?)
    }

    /// The path of a child of the driver.
    pub(crate) fn child(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// Returns when the user interrupts: Ctrl-C or SIGTERM. A verb that holds this future ends
    /// itself; any other verb is cancelled. A second signal cancels every verb.
    pub(crate) fn interrupted(&self) -> impl Future<Output = ()> + use<> {
        self.interrupts.received()
    }

    /// Replaces the error of a call by the loss of the connection if that caused it.
    pub(crate) async fn judge(&self, outcome: Result<u8>) -> Result<u8> {
        let error = match outcome {
            Err(Fault::Failed(error)) if error.kind() == ErrorKind::Unavailable => error,
            outcome => return outcome,
        };
        match tokio::time::timeout(GRACE, self.opened.lost()).await {
            Ok(lost) => Err(Fault::Unreachable(lost)),
            Err(_) => Err(Fault::Failed(error)),
        }
    }
}
