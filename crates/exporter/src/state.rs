//! What the exporter is doing, numbered so that a client sees each change.

use jumpstarter_protocol::v1::ExporterStatus;
use tokio::sync::watch;

/// A state with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// What the exporter is doing.
    pub status: ExporterStatus,
    /// For people; may be empty.
    pub message: String,
    /// One more with each change.
    pub version: u64,
    /// What it was doing before.
    pub previous: Option<ExporterStatus>,
}

impl State {
    /// The message of an exporter that takes calls, as clients of the Python packages know it.
    pub const READY: &str = "Ready for commands";

    fn change(&mut self, status: ExporterStatus, message: String) {
        self.previous = Some(self.status);
        self.status = status;
        self.message = message;
        self.version += 1;
    }

    /// The hook that is running.
    pub fn hook(&self) -> Option<&'static str> {
        match self.status {
            ExporterStatus::BeforeLeaseHook => Some("beforeLease"),
            ExporterStatus::AfterLeaseHook => Some("afterLease"),
            _ => None,
        }
    }
}

/// The state of one exporter; clones show and change the same.
#[derive(Clone, Debug)]
pub struct Stateful(watch::Sender<State>);

impl Stateful {
    pub(crate) fn ready() -> Self {
        let status = ExporterStatus::LeaseReady;
        let message = State::READY.to_owned();
        Self(watch::Sender::new(State { status, message, version: 0, previous: None }))
    }

    /// The state now.
    pub fn get(&self) -> State {
        self.0.borrow().clone()
    }

    /// The state now, for a moment in which it does not change.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.0.borrow())
    }

    /// Goes to another state.
    pub fn set(&self, status: ExporterStatus, message: impl Into<String>) {
        self.0.send_modify(|state| state.change(status, message.into()));
    }

    /// Ends a session of clients, unless a hook is running, whose name is the answer then.
    pub(crate) fn end_session(&self) -> std::result::Result<(), &'static str> {
        let mut ended = Ok(());
        self.0.send_if_modified(|state| {
            if let Some(hook) = state.hook() {
                ended = Err(hook);
                return false;
            }
            if state.status == ExporterStatus::Available {
                return false;
            }
            state.change(ExporterStatus::Available, "Available for new lease".to_owned());
            true
        });
        ended
    }

    /// To await changes with.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}
