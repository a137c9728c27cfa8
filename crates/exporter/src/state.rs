//! The exporter's state, with a version so that a client sees each change.

use jumpstarter_protocol::v1::ExporterStatus;
use tokio::sync::watch;

/// A state with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The current phase of the exporter.
    pub status: ExporterStatus,
    /// For people; may be empty.
    pub message: String,
    /// Grows by one with each change.
    pub version: u64,
    /// The phase before, if any.
    pub previous: Option<ExporterStatus>,
}

impl State {
    /// The message of a ready exporter, as clients of the Python packages know it.
    pub const READY: &str = "Ready for commands";

    fn change(&mut self, status: ExporterStatus, message: String) {
        self.previous = Some(self.status);
        self.status = status;
        self.message = message;
        self.version += 1;
    }

    /// The running hook, if any.
    pub fn hook(&self) -> Option<&'static str> {
        match self.status {
            ExporterStatus::BeforeLeaseHook => Some("beforeLease"),
            ExporterStatus::AfterLeaseHook => Some("afterLease"),
            _ => None,
        }
    }
}

/// The state of one exporter; clones share it.
#[derive(Clone, Debug)]
pub struct Stateful(watch::Sender<State>);

impl Stateful {
    pub(crate) fn ready() -> Self {
        let status = ExporterStatus::LeaseReady;
        let message = State::READY.to_owned();
        Self(watch::Sender::new(State { status, message, version: 0, previous: None }))
    }

    /// Returns the current state.
    pub fn get(&self) -> State {
        self.0.borrow().clone()
    }

    /// Reads the current state, which does not change meanwhile.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.0.borrow())
    }

    /// Changes the state.
    pub fn set(&self, status: ExporterStatus, message: impl Into<String>) {
        self.0.send_modify(|state| state.change(status, message.into()));
    }

    /// Ends a session of clients. Fails with the name of a running hook.
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

    /// A receiver that awaits changes.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}
