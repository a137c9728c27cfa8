//! The lease of a session: what the exporter is doing, and how a client ends its session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::Stateful;

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) state: Stateful,
    /// The end of a session is waited for, and the next one begins then.
    can_end: AtomicBool,
    pub(crate) ended: Notify,
    /// What the beforeLease hook adds to the text for people who enter a shell.
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

    /// A text, and what was added to it.
    pub(crate) fn motd(&self, own: &str) -> String {
        let added = self.added_motd.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = [own, added.as_str()];
        texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}
