//! What a virtual machine is made of.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::config::QemuConfig;
use crate::console::Console;
use crate::folders::Folders;
use crate::host::HostFacts;
use crate::lock::lock;
use crate::names::NameGuard;
use crate::ports::Forwards;
use crate::run::Run;
use crate::status::Status;
use crate::storage::Storage;

/// What all handles of a machine share.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) config: Mutex<QemuConfig>,
    pub(crate) facts: HostFacts,
    pub(crate) vsock_cid: Option<u32>,
    pub(crate) folders: Folders,
    pub(crate) storage: Storage,
    pub(crate) forwards: Forwards,
    pub(crate) console: Console,
    pub(crate) status: Status,
    /// The run that is under way; one that is over is let go when it is next looked at.
    pub(crate) run: Mutex<Option<Arc<Run>>>,
    /// Held by what may not happen at once: starting, flashing, dumping, destroying.
    pub(crate) exclusive: tokio::sync::Mutex<()>,
    /// Cancelled when the machine is destroyed, and with it what is under way.
    pub(crate) destroyed: CancellationToken,
    pub(crate) taken_name: Mutex<Option<NameGuard>>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // The monitor task holds QEMU alive: it has to be told. The folder goes with the field.
        if let Some(run) = lock(&self.run).take() {
            run.kill();
        }
    }
}
