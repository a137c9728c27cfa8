//! A session: a device with its ids, its resources, its state and its log.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jumpstarter_driver_core::Node;
use jumpstarter_driver_core::{Device, Error, Result};
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::counters::{Counters, Counts};
use crate::directory::Directory;
use crate::lease::Lease;
use crate::limits::Limits;
use crate::logs::LogHub;
use crate::resource::Resources;
use crate::{Stateful, id};

/// How a session is served.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub(crate) name: Option<String>,
    pub(crate) motd: String,
    pub(crate) stall_limit: Duration,
    pub(crate) limits: Limits,
    pub(crate) logs: LogHub,
    pub(crate) is_leased: bool,
}

impl SessionOptions {
    /// The exporter's name: the label `jumpstarter.dev/name` of the report.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A text for people who enter a shell.
    #[must_use]
    pub fn motd(mut self, text: impl Into<String>) -> Self {
        self.motd = text.into();
        self
    }

    /// Gives up a client that sends nothing of its image for this long; default: 120 s.
    #[must_use]
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// Limits the memory of connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The log that clients see; without it they see nothing.
    #[must_use]
    pub fn logs(mut self, logs: LogHub) -> Self {
        self.logs = logs;
        self
    }

    /// The session is of one lease of a controller. A client that ends it ends it for all clients
    /// of the lease, and no driver may be called after that.
    #[must_use]
    pub fn of_a_lease(mut self) -> Self {
        self.is_leased = true;
        self
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            name: None,
            motd: String::new(),
            stall_limit: Duration::from_secs(120),
            limits: Limits::default(),
            logs: LogHub::default(),
            is_leased: false,
        }
    }
}

/// A served device. Clones share the session.
#[derive(Clone, Debug)]
pub struct Session(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) options: SessionOptions,
    pub(crate) uuid: String,
    pub(crate) directory: Directory,
    pub(crate) resources: Arc<Resources>,
    pub(crate) lease: Lease,
    pub(crate) connections: Connections,
    pub(crate) counters: Arc<Counters>,
    /// Ends every call when it is cancelled.
    pub(crate) shutdown: CancellationToken,
}

impl Session {
    /// A session for a device, ready to be called.
    ///
    /// # Errors
    /// `Internal` if the system has no random numbers.
    pub fn new(device: Device, options: SessionOptions) -> Result<Self> {
        Ok(Self(Arc::new(Shared {
            uuid: id::random()?,
            directory: Directory::new(&device)?,
            resources: Arc::default(),
            lease: Lease::new(),
            connections: Connections::new(&options.limits),
            counters: Arc::default(),
            shutdown: CancellationToken::new(),
            device,
            options,
        })))
    }

    /// The served device.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The exporter's state; clients see it.
    pub fn state(&self) -> &Stateful {
        &self.0.lease.state
    }

    /// The log that clients see.
    pub fn logs(&self) -> &LogHub {
        &self.0.options.logs
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.0.counters.counts()
    }

    /// Resets every driver, before clients may call one.
    ///
    /// # Errors
    /// The error of the first driver that fails, or panics (`Internal`).
    pub async fn reset(&self) -> Result<()> {
        self.device().reset().await
    }

    /// Ends every call with `Unavailable`, and refuses new ones. The device stays open.
    pub fn shut_down(&self) {
        self.0.shutdown.cancel();
    }

    /// Allows clients to end the session, which [`ended`](Self::ended) reports. Otherwise they are
    /// refused.
    pub fn let_clients_end_it(&self) {
        self.0.lease.let_clients_end_it();
    }

    /// Waits until a client ends the session.
    pub async fn ended(&self) {
        self.0.lease.ended.notified().await;
    }

    /// Forgets that a client ended the previous session.
    pub fn forget_end(&self) {
        // The permit that is kept for the next waiter.
        let _consumed = self.0.lease.ended.notified().now_or_never();
    }

    /// Waits until no client is connected. Hooks do not count.
    pub async fn clients_left(&self) {
        self.0.connections.clients.all_left().await;
    }

    /// The text for people who enter a shell: that of the options, and the added one.
    pub fn motd(&self) -> String {
        self.0.lease.motd(&self.0.options.motd)
    }

    /// Adds to the text for people who enter a shell; replaces an earlier addition.
    pub fn add_to_motd(&self, text: String) {
        self.0.lease.add_to_motd(text);
    }

    /// The node with that id.
    pub(crate) fn node(&self, uuid: &str) -> Result<&Node> {
        let index = self.0.directory.find(uuid).ok_or_else(|| {
            Error::not_found(format!("there is no driver with the uuid `{uuid}`"))
                .refused()
                .with_hint("uuids change when the exporter restarts: get a new report")
        })?;
        Ok(&self.0.device.nodes()[index])
    }
}
