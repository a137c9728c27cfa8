//! Devices of a lab: leases of a controller, and the way to the exporter of one.
//!
//! ```no_run
//! use std::time::Duration;
//! use jumpstarter_client::lab::{Lab, Wanted};
//! use jumpstarter_controller::{Controller, ControllerOptions, Identity};
//!
//! # async fn run(options: ControllerOptions) -> jumpstarter_driver_core::Result<()> {
//! let lab = Lab::new(Controller::new(options)?);
//! let wanted = Wanted::selector("board=rpi4").duration(Duration::from_secs(1800));
//! let lease = lab.lease(wanted, |why| println!("waiting: {why}")).await?;
//! let exporter = lease.connect().await?;
//! exporter.device().call("power", "on", vec![]).await?;
//! lease.release().await
//! # }
//! ```

mod dial;
mod lease;
mod lists;
mod wait;

use jumpstarter_controller::Controller;
use tokio_util::task::TaskTracker;

pub use dial::DialLimits;
pub use lease::{Lease, Remaining, Wanted};
pub use lists::{Condition, ExporterEntry, LeaseEntry, LeaseQuery};

/// A controller, as a client uses it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Lab {
    controller: Controller,
    limits: DialLimits,
    /// The releases of leases that were dropped.
    releases: TaskTracker,
}

impl Lab {
    /// The lab of a controller, with the identity of a client.
    pub fn new(controller: Controller) -> Self {
        let limits = DialLimits::default();
        Self { controller, limits, releases: TaskTracker::new() }
    }

    /// Sets how long a way to an exporter is looked for.
    #[must_use]
    pub fn limits(mut self, limits: DialLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Waits until the leases that were dropped are released, or cannot be.
    pub async fn released(&self) {
        self.releases.close();
        self.releases.wait().await;
        self.releases.reopen();
    }

    /// Makes calls to the controller that this lab has no method for.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The path of the client's namespace.
    fn parent(&self) -> String {
        format!("namespaces/{}", self.controller.identity().namespace())
    }

    /// The path of an object in it.
    fn path(&self, kind: &str, name: &str) -> String {
        format!("{}/{kind}/{name}", self.parent())
    }
}

/// The last part of an object's path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
