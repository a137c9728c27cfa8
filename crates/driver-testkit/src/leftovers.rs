//! Resources of a process: open files, descendants, files in its temporary folder. Linux only;
//! elsewhere only files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::idle::connected_to_own;
use crate::isolated::MARK;
use crate::processes;

/// Connections to a peer in this process that are idle for this long count as kept alive.
const IDLE: Duration = Duration::from_secs(1);
/// The reason, and the remedy.
const KEPT_ALIVE: &str = "; these are idle connections between the driver and a peer in this \
    process, which each end keeps alive for the other: in `close`, end the driver's idle \
    connections (drop its HTTP client), or have the test's server close them, for HTTP with the \
    header `connection: close`";

/// The resources at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Open files by kind (`socket`, `pipe`, a path).
    open: BTreeMap<String, Vec<String>>,
    processes: BTreeSet<u32>,
    files: BTreeSet<PathBuf>,
}

/// The resources that were not there before.
#[derive(Debug)]
pub(crate) struct Leftovers {
    found: Vec<String>,
    /// Open files that were not there before.
    new: BTreeSet<String>,
    /// Whether only open files are left.
    pub(crate) only_open_files: bool,
}

impl Leftovers {
    /// Whether only connections between the driver and a peer in this process are left. They do not
    /// end by themselves.
    pub(crate) fn is_kept_alive(&self) -> bool {
        self.only_open_files && !self.new.is_empty() && self.new.is_subset(&connected_to_own())
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left behind: {}", self.found.join(", "))?;
        if self.is_kept_alive() {
            f.write_str(KEPT_ALIVE)?;
        }
        Ok(())
    }
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        Self { open: open_files(), processes: descendants(), files: files() }
    }

    /// Waits until no new resources are left.
    pub(crate) async fn wait_for_return(&self, limit: Duration) -> Result<(), Leftovers> {
        let start = Instant::now();
        let (mut last, mut since) = (BTreeSet::new(), start);
        loop {
            let left = Self::take().beyond(self);
            if left.found.is_empty() {
                return Ok(());
            }
            if left.new != last {
                (last, since) = (left.new.clone(), Instant::now());
            }
            let is_kept_alive = since.elapsed() > IDLE && left.is_kept_alive();
            if start.elapsed() > limit || is_kept_alive {
                return Err(left);
            }
            // The kernel announces none of these.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn beyond(&self, before: &Self) -> Leftovers {
        let (mut found, mut all_new) = (Vec::new(), BTreeSet::new());
        for (kind, targets) in &self.open {
            let known = before.open.get(kind).map_or(&[][..], Vec::as_slice);
            if targets.len() > known.len() {
                let new: Vec<_> =
                    targets.iter().filter(|target| !known.contains(target)).cloned().collect();
                all_new.extend(new.iter().cloned());
                found.push(format!(
                    "open {kind} ({} more: {})",
                    targets.len() - known.len(),
                    new.join(" ")
                ));
            }
        }
        let open = found.len();
        for process in self.processes.difference(&before.processes) {
            let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("process {process} ({})", command.trim()));
        }
        let new = self.files.difference(&before.files).filter(|path| {
            // Files in the fixture's folders are the driver's results, unless they are temporary
            // ones.
            path.parent().is_none_or(|folder| !before.files.contains(folder)) || is_passing(path)
        });
        found.extend(new.map(|path| format!("file {}", path.display())));
        Leftovers { only_open_files: found.len() == open, found, new: all_new }
    }
}

fn is_passing(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let kind = fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    name.starts_with('.')
        || ["partial", "tmp", "lock", "pid", "sock"].contains(&&*extension)
        || kind.is_ok_and(|kind| kind.is_socket() || kind.is_fifo())
}

fn open_files() -> BTreeMap<String, Vec<String>> {
    let mut open: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let own = format!("/proc/{}/fd", std::process::id());
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        // Closed in the meantime, or the folder that is being read.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target == own {
            continue;
        }
        let kind = target
            .split_once(":[")
            .map_or(target.as_str(), |(kind, rest)| if kind == "anon_inode" { rest } else { kind });
        open.entry(kind.trim_end_matches(']').to_owned()).or_default().push(target);
    }
    open
}

/// Descendants, and processes that carry this case's mark; zombies too, since somebody must reap
/// them.
fn descendants() -> BTreeSet<u32> {
    let own = std::process::id();
    let mark = std::env::var_os(MARK).map(|mark| {
        let mut line = OsString::from(MARK);
        line.push("=");
        line.push(mark);
        line
    });
    let marked = |id: u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        mark.as_ref().is_some_and(|mark| {
            environment.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
        })
    };
    let descendants = processes::descendants(own).into_iter().map(|process| process.id);
    let ids = processes::all().into_iter().map(|process| process.id);
    descendants.chain(ids.filter(|id| marked(*id))).filter(|id| *id != own).collect()
}

/// Everything in the temporary folder, if it belongs to this process.
fn files() -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let root = std::env::temp_dir();
    if std::env::var_os(MARK).is_some_and(|mark| root.starts_with(mark)) {
        walk(&root, &mut files);
    }
    files
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), files);
        }
        files.insert(entry.path());
    }
}
