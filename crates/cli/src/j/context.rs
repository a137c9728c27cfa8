//! What a verb works with.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Device, ErrorKind, Interface, Node};

use super::interrupt::Interrupts;
use super::output::Output;
use crate::fault::{Fault, Result};
use crate::target::Opened;

/// A call that failed because the exporter went away may say so a little before the connection
/// does.
const GRACE: Duration = Duration::from_secs(1);

/// The device, the path of the driver that the verb was said to, and how to print.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) opened: Opened,
    /// The path of the driver; empty for the root.
    pub(crate) path: String,
    /// How to print.
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

    /// The device.
    pub(crate) fn device(&self) -> &Device {
        &self.opened.device
    }

    /// The driver by one of its interfaces.
    pub(crate) fn get<I: Interface + ?Sized>(&self) -> Result<Arc<I>> {
        Ok(self.device().get::<I>(&self.path)?)
    }

    /// The node of the driver.
    pub(crate) fn node(&self) -> Result<&Node> {
        Ok(self.device().node(&self.path)?)
    }

    /// Returns when the user wants an end: Ctrl-C or SIGTERM. A verb that awaits it ends itself;
    /// any other is cancelled. A second signal cancels it all the same.
    pub(crate) async fn interrupted(&self) {
        self.interrupts.received().await;
    }

    /// An error of a call becomes the loss of the connection where that is its cause.
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
