//! A session: a device with its ids, its resources, its state and its log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use jumpstarter_driver_core::{Device, Error, Node, Result};
use jumpstarter_protocol::Memory;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clients::Clients;
use crate::counters::{Counters, Counts};
use crate::crowd::Crowd;
use crate::limits::{Limits, Promises};
use crate::logs::LogHub;
use crate::operation::category;
use crate::resource::Resources;
use crate::{Stateful, id};

/// How a session is served.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The exporter's name: the label `jumpstarter.dev/name` of the report.
    pub name: Option<String>,
    /// Text for who enters a shell.
    pub motd: String,
    /// A client that sends nothing of its image for so long is given up.
    pub stall_limit: Duration,
    /// What connections may take of the memory.
    pub limits: Limits,
    /// Where log records come from; a hub of its own says nothing.
    pub logs: LogHub,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            name: None,
            motd: String::new(),
            stall_limit: Duration::from_secs(120),
            limits: Limits::default(),
            logs: LogHub::default(),
        }
    }
}

/// A device that is served. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) options: SessionOptions,
    pub(crate) uuid: String,
    /// The id of each driver, by its number: a proxy shares its target's.
    uuids: Vec<String>,
    by_uuid: HashMap<String, usize>,
    /// The category of each driver, by its number.
    categories: Vec<&'static str>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) state: Stateful,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ended: tokio::sync::Notify,
    /// The end of a session is waited for, and the next one begins then.
    pub(crate) leased: AtomicBool,
    /// The clients that are connected.
    pub(crate) clients: Clients,
    pub(crate) crowd: Crowd,
    /// For messages.
    pub(crate) memory: Memory,
    /// For what was not read yet.
    pub(crate) windows: Promises,
    /// The connections that are open.
    pub(crate) connections: TaskTracker,
    /// Ends every call.
    pub(crate) shutdown: CancellationToken,
    /// What the beforeLease hook adds to the text for who enters a shell.
    added_motd: Mutex<String>,
}

impl Session {
    /// A session for a device, ready to be called.
    ///
    /// # Errors
    /// `Internal` when the system has no random numbers.
    pub fn new(device: Device, options: SessionOptions) -> Result<Self> {
        let count = device.nodes().iter().map(Node::id).max().map_or(0, |id| id + 1);
        let uuids = (0..count).map(|_| id::random()).collect::<Result<Vec<_>>>()?;
        // The first node with an id is the driver itself or stands for it: either calls the same
        // driver.
        let mut by_uuid = HashMap::new();
        let mut categories = vec!["other"; count];
        for (index, node) in device.nodes().iter().enumerate() {
            by_uuid.entry(uuids[node.id()].clone()).or_insert_with(|| {
                let has_children = device.nodes().iter().any(|other| other.parent() == Some(index));
                categories[node.id()] = category(node, has_children);
                index
            });
        }
        let half = options.limits.total_bytes / 2;
        let (memory, windows) = (Memory::new(half), Promises::new(half));
        Ok(Self(Arc::new(Shared {
            device,
            uuid: id::random()?,
            uuids,
            by_uuid,
            categories,
            resources: Arc::new(Resources::default()),
            options,
            counters: Arc::default(),
            state: Stateful::ready(),
            ended: tokio::sync::Notify::new(),
            leased: AtomicBool::new(false),
            clients: Clients::default(),
            crowd: Crowd::new(),
            memory,
            windows,
            connections: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            added_motd: Mutex::default(),
        })))
    }

    /// What is served.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// What the exporter is doing; clients see it.
    pub fn state(&self) -> &Stateful {
        &self.0.state
    }

    /// The log that clients see.
    pub fn logs(&self) -> &LogHub {
        &self.0.options.logs
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.0.counters.counts()
    }

    /// Waits until no client is connected. Hooks do not count.
    pub async fn clients_left(&self) {
        self.0.clients.all_left().await;
    }

    /// Ends every call with `Unavailable`, and refuses new ones. The device stays open.
    pub fn shut_down(&self) {
        self.0.shutdown.cancel();
    }

    /// Waits until a client ends the session.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// From now on clients may end the session, which [`ended`](Self::ended) reports. Without, they
    /// hear that there is none to end.
    pub fn let_clients_end_it(&self) {
        self.0.leased.store(true, Ordering::Relaxed);
    }

    /// Forgets that a client ended the session: it was the one before.
    pub fn forget_end(&self) {
        // The permit that is kept for who waits next.
        let _consumed = self.0.ended.notified().now_or_never();
    }

    /// The text for people who enter a shell: that of the options, and what was added.
    pub fn motd(&self) -> String {
        let added = self.0.added_motd.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = [self.0.options.motd.as_str(), added.as_str()];
        texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// Adds to the text for people who enter a shell, in place of what was added before.
    pub fn add_to_motd(&self, text: String) {
        *self.0.added_motd.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    pub(crate) fn uuid_of(&self, node: &Node) -> &str {
        &self.0.uuids[node.id()]
    }

    pub(crate) fn category_of(&self, node: &Node) -> &'static str {
        self.0.categories[node.id()]
    }

    /// The node with that id.
    pub(crate) fn node(&self, uuid: &str) -> Result<&Node> {
        let index = self.0.by_uuid.get(uuid).ok_or_else(|| {
            Error::not_found(format!("there is no driver with the uuid `{uuid}`"))
                .refused()
                .with_hint("uuids change when the exporter restarts: get a new report")
        })?;
        Ok(&self.0.device.nodes()[*index])
    }

    pub(crate) fn shutting_down() -> Error {
        Error::unavailable("the exporter is shutting down")
    }
}
