//! Processes, as `/proc` reports them. Linux only; elsewhere the lists are empty.

use std::collections::BTreeMap;
use std::fs;

/// A process at the moment of the call; it may have ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// The process id, which may be reused after the process was reaped.
    pub id: u32,
    /// The id of its parent.
    pub parent: u32,
    /// The kernel's name for it: at most 15 bytes.
    pub name: String,
    /// Whether it has ended and waits to be reaped.
    pub is_zombie: bool,
}

/// All processes.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // A process may have ended meanwhile.
    entries.filter_map(|entry| find(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The descendants of `root`, parents first, zombies included.
pub fn descendants(root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.id);
            found.push(process);
        }
    }
    found
}

/// The process with this id; `None` if it was reaped.
pub fn find(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in brackets and may contain any character.
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    Some(Process { id, parent, name, is_zombie })
}
