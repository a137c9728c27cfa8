//! The lease of a session: the exporter's state, and how a client ends its session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::Stateful;

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) state: Stateful,
    /// Whether the daemon waits for the end of a session, after which the next one begins.
    can_end: AtomicBool,
    pub(crate) ended: Notify,
    /// The text that the beforeLease hook adds for people who enter a shell.
    added_motd: Mutex<String>,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self {
            state: Stateful::ready(),
            can_end: AtomicBool::new(false),
            ended: Notify::new(),
            added_motd: Mutex::default(),
        }
    }

    pub(crate) fn let_clients_end_it(&self) {
        self.can_end.store(true, Ordering::Relaxed);
    }

    pub(crate) fn can_end(&self) -> bool {
        self.can_end.load(Ordering::Relaxed)
    }

    pub(crate) fn add_to_motd(&self, text: String) {
        *self.added_motd.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The message, with the added text.
    pub(crate) fn motd(&self, own: &str) -> String {
        let added = self.added_motd.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = [own, added.as_str()];
        texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}
