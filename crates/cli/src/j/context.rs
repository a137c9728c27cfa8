//! What a verb works with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::ArgMatches;
use jumpstarter_client::Exporter;
use jumpstarter_driver_core::{Device, Error, ErrorKind, Interface, Node};

use super::arguments;
use super::fault::Fault;
use super::interrupt::Interrupts;
use super::open::Opened;
use super::output::Output;

/// A call that failed because the exporter went away may say so a little before the connection
/// does.
const GRACE: Duration = Duration::from_secs(1);

/// The device, the path of the driver that the verb was said to, and how to print.
#[derive(Debug)]
pub(crate) struct Context {
    /// The device.
    pub(crate) device: Device,
    /// The exporter that has it; none for a device of this process.
    pub(crate) exporter: Option<Exporter>,
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
        matches: &ArgMatches,
        interrupts: Interrupts,
    ) -> Self {
        let output = Output::new(arguments::output(matches));
        Self { device: opened.device, exporter: opened.exporter, path, output, interrupts }
    }

    /// The driver by one of its interfaces.
    pub(crate) fn get<I: Interface + ?Sized>(&self) -> Result<Arc<I>> {
        Ok(self.device.get::<I>(&self.path)?)
    }

    /// The node of the driver.
    pub(crate) fn node(&self) -> Result<&Node> {
        Ok(self.device.node(&self.path)?)
    }

    /// Returns when the user wants an end: Ctrl-C or SIGTERM. A verb that awaits it ends itself;
    /// any other is cancelled. A second signal cancels it all the same.
    pub(crate) async fn interrupted(&self) {
        self.interrupts.told().await;
    }

    /// Returns when the exporter is gone, with what to say about it; never for a device in this
    /// process.
    pub(crate) async fn lost(&self) -> Error {
        match &self.exporter {
            Some(exporter) => exporter.lost().await,
            None => std::future::pending().await,
        }
    }

    /// An error of a call says "unreachable" when the exporter went away under it.
    pub(crate) async fn judge(&self, outcome: Result<u8>) -> Result<u8> {
        let unavailable = |error: &anyhow::Error| {
            error
                .downcast_ref::<Error>()
                .is_some_and(|error| error.kind() == ErrorKind::Unavailable)
        };
        match outcome {
            Err(error) if unavailable(&error) => {
                match tokio::time::timeout(GRACE, self.lost()).await {
                    Ok(lost) => Err(Fault::Unreachable(lost).into()),
                    Err(_) => Err(error),
                }
            }
            outcome => outcome,
        }
    }
}
