//! The parts of a virtual machine.

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

/// Shared by all handles of a machine.
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
    /// The current run; a finished one is dropped at the next access.
    pub(crate) run: Mutex<Option<Arc<Run>>>,
    /// Held by operations that exclude each other: starting, flashing, dumping, destroying.
    pub(crate) exclusive: tokio::sync::Mutex<()>,
    /// Cancelled when the machine is destroyed, which ends its operations.
    pub(crate) destroyed: CancellationToken,
    pub(crate) taken_name: Mutex<Option<NameGuard>>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // The monitor task keeps QEMU alive, so it must be notified. The folder is dropped with the
        // field.
        if let Some(run) = lock(&self.run).take() {
            run.kill();
        }
    }
}
