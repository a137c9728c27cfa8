//! TCP connections of this process to itself: a client that keeps one alive and the test's server
//! wait for each other, and neither closes it.

use std::collections::BTreeSet;
use std::fs;

/// The state of a connection in which both ends may send.
const ESTABLISHED: &str = "01";

/// The sockets of this process whose other end is in this process, too, by their names in `/proc`:
/// `socket:[123]`.
pub(crate) fn connected_to_own() -> BTreeSet<String> {
    let mut connections = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        connections.extend(text.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            let state = fields.next()?;
            // After it: queues, timer, retransmits, user, timeout.
            let inode = format!("socket:[{}]", fields.nth(5)?);
            (state == ESTABLISHED).then_some((local, remote, inode))
        }));
    }
    let own: BTreeSet<String> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    connections.retain(|(.., inode)| own.contains(inode));
    let ends: BTreeSet<(String, String)> =
        connections.iter().map(|(local, remote, _)| (local.clone(), remote.clone())).collect();
    connections
        .into_iter()
        .filter(|(local, remote, _)| ends.contains(&(remote.clone(), local.clone())))
        .map(|(.., inode)| inode)
        .collect()
}
