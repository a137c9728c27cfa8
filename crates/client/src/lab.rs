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
//! let exporter = lease.open().await?;
//! exporter.device().call("power", "on", vec![]).await?;
//! // Ends the session, and releases the lease.
//! exporter.device().close().await
//! # }
//! ```
//!
//! [`Lease::request`] is shorter: it leases from the lab of the user's current client, or of the
//! environment.

mod dial;
mod lease;
mod lists;
mod open;
mod release;
mod token;
mod wait;
mod wanted;

use std::time::Duration;

use jumpstarter_config::{ClientConfig, GrpcOption};
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
use jumpstarter_driver_core::{Error, Result};
use tokio_util::task::TaskTracker;

pub use dial::DialLimits;
pub use lease::{Lease, Remaining};
pub use lists::{Condition, ExporterEntry, LeaseEntry, LeaseQuery};
pub use wanted::Wanted;

/// A controller, as a client uses it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Lab {
    controller: Controller,
    limits: DialLimits,
    /// How long a device is waited for.
    acquisition_limit: Duration,
    /// The releases of leases that were dropped.
    releases: TaskTracker,
}

impl Lab {
    /// The lab of a controller, with the identity of a client.
    pub fn new(controller: Controller) -> Self {
        let limits = DialLimits::default();
        let acquisition_limit = Duration::from_secs(7200);
        Self { controller, limits, acquisition_limit, releases: TaskTracker::new() }
    }

    /// The lab of a client's configuration.
    ///
    /// # Errors
    /// `InvalidArgument` for an endpoint or certificates that cannot be used, `Unauthenticated`
    /// without a token.
    pub fn of_client(config: &ClientConfig) -> Result<Self> {
        let endpoint = config.endpoint.as_deref().unwrap_or_default().parse()?;
        let token = config.token.clone().ok_or_else(|| {
            Error::unauthenticated(format!("the client {} has no token", config.alias))
                .with_hint("log in with `jmp login`, or ask who runs the lab for a token")
        })?;
        let (namespace, name) = (&config.metadata.namespace, &config.metadata.name);
        let identity = Identity::client(namespace.clone().unwrap_or_default(), name, token);
        let trust = Trust::of_settings(&config.tls.ca, config.tls.insecure)?;
        let arguments = config.grpc_options.iter().filter_map(|(name, value)| match value {
            GrpcOption::Number(value) => Some((name.as_str(), *value)),
            _ => None,
        });
        let options = ControllerOptions::new(endpoint, identity).trust(trust);
        let mut lab = Self::new(Controller::new(options.channel_arguments(arguments))?);
        lab.limits = DialLimits::within(config.leases.dial_timeout);
        lab.acquisition_limit = config.leases.acquisition_timeout;
        Ok(lab)
    }

    /// The lab of the client that the environment names (`JMP_NAMESPACE`, `JMP_NAME`,
    /// `JMP_ENDPOINT`, `JMP_TOKEN`), else of the user's current client.
    ///
    /// # Errors
    /// `FailedPrecondition` without a client; as [`of_client`](Self::of_client).
    pub fn from_env() -> Result<Self> {
        Self::of_client(&ClientConfig::choose(None, None, |name| std::env::var_os(name))?)
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

    /// The same lab, for another runtime.
    fn on_another_runtime(&self) -> Self {
        Self { controller: self.controller.with_separate_connection(), ..self.clone() }
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
