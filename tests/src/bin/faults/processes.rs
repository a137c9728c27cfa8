//! The processes below this one, by what /proc reports.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
    /// What the kernel calls it: at most 15 bytes.
    pub(crate) name: String,
    is_zombie: bool,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            // It may have ended.
            kill_process(pid, signal).ok();
        }
    }
}

/// The living descendants of `root`, parents first.
pub(crate) fn descendants(root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // It may have ended meanwhile.
        if let Some((parent, process)) = id.and_then(stat) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.id);
            if !process.is_zombie {
                found.push(process);
            }
        }
    }
    found
}

/// Whether a process has exited, as far as that is its own doing: a thread that waits for an answer
/// of a file system stays in the kernel until that comes.
pub(crate) fn has_exited(id: u32) -> bool {
    stat(id).is_none_or(|(_, process)| process.is_zombie)
}

/// Reaps the children of this process that lost their owner and have ended.
///
/// Call it only while no [`std::process::Child`] is held.
pub(crate) fn reap_adopted() {
    while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
}

/// A process and its parent.
fn stat(id: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    Some((parent, Process { id, name, is_zombie }))
}
