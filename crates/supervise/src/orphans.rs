//! Processes that this process inherits: in a container the first process gets every process whose
//! parent has ended, and each stays a zombie until it is reaped.
//!
//! The children of this process itself, the guardians, are left to those who wait for them.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Held for reading while a process is started: its number is not in [`OWN`] yet.
static STARTING: RwLock<()> = RwLock::new(());
/// The numbers of this process's own children.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Keeps a child from being reaped as an orphan, until it is dropped.
#[derive(Debug)]
pub(crate) struct Own(u32);

impl Own {
    /// Starts a child, which nobody but its owner waits for.
    pub(crate) fn start(
        spawn: impl FnOnce() -> io::Result<tokio::process::Child>,
    ) -> io::Result<(tokio::process::Child, Self)> {
        let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        let child = spawn()?;
        // It is not reaped yet, so it has a number.
        let own = Self(child.id().unwrap_or_default());
        OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(own.0);
        Ok((child, own))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Reaps, for ever, the children that this process did not start. For the first process of a
/// container and for a subreaper; Linux only. Dropping the future ends it.
///
/// # Errors
/// The system's error if it has no room for another listener for signals.
pub async fn reap_orphans() -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        // A start may take long, and this waits for it.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(reap).await {
            tracing::debug!(%error, "orphans cannot be found");
        }
        ended.recv().await;
    }
}

/// Reaps the orphans that have ended.
fn reap() -> io::Result<()> {
    let _nothing_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread that has ended has no children.
        let children = std::fs::read_to_string(thread?.path().join("children"));
        let children = children.unwrap_or_default();
        let numbers = children.split_whitespace().filter_map(|number| number.parse::<u32>().ok());
        for orphan in numbers.filter(|number| !own.contains(number)) {
            let pid = i32::try_from(orphan).ok().and_then(Pid::from_raw);
            if let Ok(Some((_, status))) = waitpid(pid, WaitOptions::NOHANG) {
                tracing::debug!(pid = orphan, ?status, "an orphan was reaped");
            }
        }
    }
    Ok(())
}
