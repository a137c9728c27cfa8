//! What the controller knows: clients, exporters, leases, who waits on which stream.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tonic::Status;

use crate::Options;
use crate::auth::{Caller, Kind};
use crate::clock::Clock;
use crate::lease::Lease;
use crate::proto::v1::{ExporterStatus, ListenResponse, StatusResponse};
use crate::selector::{Labels, Selector};
use crate::switches::Switches;
use crate::token::{Issuer, Keys, uuid};

/// A namespace and a name in it.
pub(crate) type Key = (String, String);

/// After so long without a sign of an exporter it counts as offline.
const OFFLINE_AFTER: i64 = 60;

/// The state, and the scheduler that waits for its changes.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    /// Wakes the scheduler.
    pub(crate) wake: Notify,
}

impl Core {
    pub(crate) fn new(options: Options) -> Result<Arc<Self>, ring::error::Unspecified> {
        let state = Mutex::new(State::new(options)?);
        Ok(Arc::new(Self { state, wake: Notify::new() }))
    }

    /// The state, to be read.
    pub(crate) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and has the scheduler look at it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.read());
        self.wake.notify_one();
        changed
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) issuers: Vec<Issuer>,
    /// Tokens that count as expired.
    pub(crate) expired: HashSet<String>,
    pub(crate) clients: BTreeMap<Key, Client>,
    pub(crate) exporters: BTreeMap<Key, Exporter>,
    pub(crate) leases: BTreeMap<Key, Lease>,
    pub(crate) policies: Vec<Policy>,
    /// The queues of the Listen streams, by lease.
    pub(crate) listeners: HashMap<Key, mpsc::Sender<ListenResponse>>,
    /// Where streams go; without it, Dial fails.
    pub(crate) router: Option<String>,
    pub(crate) switches: Switches,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) username: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) username: Option<String>,
    pub(crate) enabled: bool,
    /// How many devices it has reported; without one, it is not registered.
    pub(crate) devices: usize,
    /// `Unspecified` is an exporter that reports no status.
    pub(crate) status: ExporterStatus,
    pub(crate) message: String,
    pub(crate) online: bool,
    pub(crate) last_seen: i64,
    pub(crate) lease: Option<String>,
    watchers: Vec<Watcher>,
}

/// Which clients may lease which exporters, and for how long.
///
/// While a namespace has no policy, everything is allowed. Spot access is not there.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// A selector of exporters; empty: all of them.
    pub exporters: String,
    /// A selector of clients; empty: all of them.
    pub clients: String,
    /// The longest lease that is allowed.
    pub maximum: Option<Duration>,
    /// Exporters of policies with a higher number come first.
    pub priority: i32,
}

/// A message of a Status stream, or the error that it ends with.
pub(crate) type Update = Result<StatusResponse, Status>;
/// What a Status stream sends.
pub(crate) type Updates = mpsc::UnboundedReceiver<Update>;

/// One open Status stream.
#[derive(Debug)]
struct Watcher {
    send: mpsc::UnboundedSender<Update>,
    last: Option<StatusResponse>,
}

impl State {
    fn new(options: Options) -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            options,
            clock: Clock::new(),
            keys: Keys::generate()?,
            issuers: Vec::new(),
            expired: HashSet::new(),
            clients: BTreeMap::new(),
            exporters: BTreeMap::new(),
            leases: BTreeMap::new(),
            policies: Vec::new(),
            listeners: HashMap::new(),
            router: None,
            switches: Switches::default(),
        })
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        (self.options.namespace.clone(), name.to_owned())
    }

    pub(crate) fn add_client(&mut self, name: &str, labels: Labels, username: Option<String>) {
        let uid = uuid(4, 0);
        self.clients.insert(self.key(name), Client { uid, labels, username });
    }

    pub(crate) fn add_exporter(&mut self, name: &str, labels: Labels, username: Option<String>) {
        let exporter = Exporter {
            uid: uuid(4, 0),
            labels,
            username,
            enabled: true,
            devices: 0,
            status: ExporterStatus::Unspecified,
            message: String::new(),
            online: false,
            last_seen: 0,
            lease: None,
            watchers: Vec::new(),
        };
        self.exporters.insert(self.key(name), exporter);
    }

    /// A token of the controller; `None` if there is no such object.
    pub(crate) fn token(&self, kind: Kind, key: &Key, life: i64) -> Option<String> {
        let uid = match kind {
            Kind::Client => &self.clients.get(key)?.uid,
            Kind::Exporter => &self.exporters.get(key)?.uid,
        };
        let subject = format!("{}:{}:{}:{uid}", kind.lower(), key.0, key.1);
        Some(self.keys.sign(&subject, self.clock.seconds(), life))
    }

    /// The user of a token. The error is the controller's text.
    pub(crate) fn user_of(&self, token: &str) -> Result<String, String> {
        let now = self.clock.seconds();
        if self.expired.contains(token) {
            let expiry = prost_types::Timestamp { seconds: now - 1, nanos: 0 };
            return Err(format!(
                "oidc: verify token: oidc: token is expired (Token Expiry: {expiry})"
            ));
        }
        self.keys.user_of(token, &self.issuers, now)
    }

    pub(crate) fn lease(&self, namespace: &str, name: &str) -> Result<&Lease, Status> {
        let lease = self.leases.get(&(namespace.to_owned(), name.to_owned()));
        lease.ok_or_else(|| not_found("leases", name))
    }

    pub(crate) fn lease_mut(&mut self, namespace: &str, name: &str) -> Result<&mut Lease, Status> {
        let lease = self.leases.get_mut(&(namespace.to_owned(), name.to_owned()));
        lease.ok_or_else(|| not_found("leases", name))
    }

    pub(crate) fn exporter(&self, namespace: &str, name: &str) -> Result<&Exporter, Status> {
        let exporter = self.exporters.get(&(namespace.to_owned(), name.to_owned()));
        exporter.ok_or_else(|| not_found("exporters", name))
    }

    /// Changes an exporter's object, and shows the change to its Status streams.
    pub(crate) fn change_exporter(&mut self, key: &Key, change: impl FnOnce(&mut Exporter)) {
        if let Some(exporter) = self.exporters.get_mut(key) {
            change(exporter);
            self.publish(key);
        }
    }

    /// Notes a sign of life.
    pub(crate) fn see(&mut self, key: &Key) {
        let now = self.clock.seconds();
        self.change_exporter(key, |exporter| {
            exporter.last_seen = now;
            exporter.online = exporter.status != ExporterStatus::Offline;
        });
    }

    /// Opens a Status stream; its first message is there at once. The sender is weak: it shows
    /// whether the stream is open, and keeps none open.
    pub(crate) fn watch(&mut self, key: &Key) -> (Updates, mpsc::WeakUnboundedSender<Update>) {
        let (send, receive) = mpsc::unbounded_channel();
        let weak = send.downgrade();
        if let Some(exporter) = self.exporters.get_mut(key) {
            if exporter.status == ExporterStatus::Offline {
                exporter.status = ExporterStatus::Unspecified;
            }
            exporter.watchers.retain(|watcher| !watcher.send.is_closed());
            exporter.watchers.push(Watcher { send, last: None });
        }
        self.see(key);
        (receive, weak)
    }

    /// Ends the Status streams of all exporters or of one, cleanly or with an error.
    pub(crate) fn end_watches(&mut self, name: Option<&str>, error: Option<&Status>) {
        for ((_, each), exporter) in &mut self.exporters {
            if name.is_some_and(|name| name != each) {
                continue;
            }
            for watcher in exporter.watchers.drain(..) {
                if let Some(error) = error {
                    // The stream may be closed on the other side.
                    drop(watcher.send.send(Err(error.clone())));
                }
            }
        }
    }

    /// Whether anybody listens to an exporter's Status.
    pub(crate) fn is_watched(&self, key: &Key) -> bool {
        let exporter = self.exporters.get(key);
        exporter.is_some_and(|e| e.watchers.iter().any(|watcher| !watcher.send.is_closed()))
    }

    /// Sends what Status says of an exporter to those streams that heard something else last.
    pub(crate) fn publish(&mut self, key: &Key) {
        let Some(exporter) = self.exporters.get(key) else { return };
        let lease = exporter.lease.as_ref();
        let lease = lease.and_then(|name| self.leases.get(&(key.0.clone(), name.clone())));
        let message = match lease {
            None => StatusResponse::default(),
            Some(lease) => StatusResponse {
                leased: true,
                lease_name: Some(lease.name.clone()),
                client_name: Some(lease.client.clone()),
                context: lease.context.clone().into_iter().collect(),
            },
        };
        let Some(exporter) = self.exporters.get_mut(key) else { return };
        exporter.watchers.retain_mut(|watcher| {
            if watcher.last.as_ref() == Some(&message) {
                return !watcher.send.is_closed();
            }
            watcher.last = Some(message.clone());
            watcher.send.send(Ok(message.clone())).is_ok()
        });
    }

    /// Marks exporters as offline that have shown no sign of life; when to look again.
    pub(crate) fn check_presence(&mut self) -> Option<Instant> {
        let now = self.clock.seconds();
        let gone = |e: &Exporter| e.online && e.last_seen + OFFLINE_AFTER <= now;
        let gone: Vec<Key> =
            self.exporters.iter().filter(|(_, e)| gone(e)).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.change_exporter(&key, |exporter| {
                exporter.online = false;
                exporter.status = ExporterStatus::Offline;
                "connection lost: last seen more than 1 minute ago"
                    .clone_into(&mut exporter.message);
            });
        }
        let present = self.exporters.values().filter(|e| e.online);
        present.map(|e| self.clock.instant(e.last_seen + OFFLINE_AFTER)).min()
    }

    /// The exporters of a namespace that a client may lease for so long, by a policy's priority.
    pub(crate) fn priority_for(
        &self,
        exporter: &Labels,
        client: &Key,
        nanoseconds: i128,
    ) -> Option<i32> {
        if self.policies.is_empty() {
            return Some(0);
        }
        let client = self.clients.get(client).map(|client| &client.labels)?;
        let fits = |text: &str, labels: &Labels| {
            Selector::parse(text).is_ok_and(|selector| selector.matches(labels))
        };
        let allows = |policy: &&Policy| {
            fits(&policy.exporters, exporter)
                && fits(&policy.clients, client)
                && policy
                    .maximum
                    .is_none_or(|maximum| nanoseconds <= maximum.as_nanos().cast_signed())
        };
        self.policies.iter().filter(allows).map(|policy| policy.priority).max()
    }

    /// Marks the lease of an exporter for release. An exporter without a lease is left as it is.
    pub(crate) fn release_of(&mut self, caller: &Caller) {
        let lease = self.exporters.get(&caller.key()).and_then(|e| e.lease.clone());
        let key = lease.map(|name| (caller.namespace.clone(), name));
        if let Some(lease) = key.and_then(|key| self.leases.get_mut(&key)) {
            lease.release = true;
        }
    }
}

/// What Kubernetes says of an object that it does not have.
pub(crate) fn not_found(kind: &str, name: &str) -> Status {
    Status::unknown(format!("{kind}.jumpstarter.dev {name:?} not found"))
}
