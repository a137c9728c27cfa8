//! The process that forks those of hosted drivers: one for each interpreter, as long as this
//! program.
//!
//! It imports Jumpstarter and the packages of the file once. A process that is forked from it
//! begins with them in memory, which it shares with the others.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{COMPOSITE_CLIENT, InterfaceDescriptor};
use jumpstarter_files::RuntimeDir;
use jumpstarter_supervise::{Child as Process, Command, Input};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use crate::interpreter;
use crate::modules::Modules;

/// The kind of the folders that have the sockets of hosted drivers.
pub(crate) const KIND: &str = "python";
pub(crate) const SCRIPT: &str = include_str!("bootstrap.py");
/// Reads [`SCRIPT`] from standard input, and keeps it: it may start itself again.
pub(crate) const READ_SCRIPT: &str = "import sys; SOURCE = sys.stdin.read(); exec(SOURCE)";
/// An interpreter that ends says why within that time.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A server for each interpreter and folder of modules.
static SERVERS: Mutex<Option<HashMap<Key, Arc<Server>>>> = Mutex::const_new(None);

/// What the processes of a server have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) python: OsString,
    /// The folder of the exporter file, whose modules can be imported.
    pub(crate) folder: Option<PathBuf>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    python: OsString,
    process: Process,
    control: UnixStream,
    /// What it was asked to import.
    imports: BTreeSet<String>,
    /// The number of the last process that it forked.
    last: AtomicU64,
    /// What it has imported, once it has.
    modules: Arc<OnceLock<Modules>>,
}

impl Server {
    /// The server of `key` that has imported `modules`, started if there is none yet.
    pub(crate) async fn of(key: &Key, modules: &BTreeSet<String>) -> Result<Arc<Self>> {
        let mut servers = SERVERS.lock().await;
        let servers = servers.get_or_insert_default();
        let mut imports = modules.clone();
        if let Some(server) = servers.get(key).filter(|server| server.process.is_running()) {
            if modules.is_subset(&server.imports) {
                return Ok(server.clone());
            }
            imports.extend(server.imports.iter().cloned());
        }
        let server = Arc::new(Self::start(key, imports).await?);
        servers.insert(key.clone(), server.clone());
        Ok(server)
    }

    /// The interpreter.
    pub(crate) fn python(&self) -> &OsStr {
        &self.python
    }

    /// Whether a module that it has imported has changed since.
    pub(crate) async fn is_stale(&self) -> bool {
        match self.modules.get() {
            Some(modules) => modules.have_changed().await,
            None => false,
        }
    }

    /// Has the next process started by another server, which imports everything anew.
    pub(crate) async fn retire(self: &Arc<Self>, key: &Key) {
        let mut servers = SERVERS.lock().await;
        let servers = servers.get_or_insert_default();
        if servers.get(key).is_some_and(|server| Arc::ptr_eq(server, self)) {
            servers.remove(key);
        }
    }

    async fn start(key: &Key, imports: BTreeSet<String>) -> Result<Self> {
        blocking(|| {
            RuntimeDir::sweep(KIND);
            Ok(())
        })
        .await?;
        let (control, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let (reported, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let command = Command::new(&key.python)
            .args(["-c", READ_SCRIPT, "serve"])
            .args([&theirs, &report].map(|fd| fd.as_raw_fd().to_string()))
            .arg(key.folder.as_deref().unwrap_or(Path::new("")))
            .arg(known_clients().join(","))
            .args(&imports)
            .stdin(Input::Bytes(SCRIPT.as_bytes().to_vec()))
            .keep_fd(theirs)
            .keep_fd(report)
            .install_hint(interpreter::HINT);
        let process = command.spawn().await?;
        let modules = Arc::<OnceLock<Modules>>::default();
        tokio::spawn(read_report(reported, modules.clone()));
        let python = key.python.clone();
        Ok(Self { python, process, control, imports, last: AtomicU64::new(0), modules })
    }

    /// Forks a process, which is given these ends of its control socket and of the pipe for its
    /// output; its number.
    pub(crate) fn fork(&self, control: &OwnedFd, output: &OwnedFd) -> Result<u64> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let descriptors = [control.as_fd(), output.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let text = format!("fork {number}\n");
        sendmsg(
            &self.control,
            &[IoSlice::new(text.as_bytes())],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map_err(|error| {
            Error::unavailable("the process that starts those in Python has ended")
                .with_source(std::io::Error::from(error))
        })?;
        Ok(number)
    }

    /// Ends a process that does not end by itself, and all that it started.
    pub(crate) fn kill(&self, number: u64) {
        let text = format!("kill {number}\n");
        if let Err(error) = rustix::net::send(&self.control, text.as_bytes(), SendFlags::NOSIGNAL) {
            tracing::debug!(%error, "a server that has ended has no processes any more");
        }
    }

    /// Why the server ended, if it has, or does within a moment.
    pub(crate) async fn why_ended(&self) -> Option<String> {
        let ended = tokio::time::timeout(LAST_WORDS, self.process.wait()).await.ok()?;
        let words = self.process.stderr_tail();
        let words = words.trim();
        Some(match words.is_empty() {
            true => format!("{} ended: {ended}", self.process.program()),
            false => format!("{} ended: {ended}; its last words:\n{words}", self.process.program()),
        })
    }
}

/// Reads which modules the server has imported, which it says once.
async fn read_report(report: OwnedFd, modules: Arc<OnceLock<Modules>>) {
    let Ok(mut report) = pipe::Receiver::from_owned_fd(report) else { return };
    let mut text = Vec::new();
    if report.read_to_end(&mut text).await.is_err() {
        return;
    }
    if let Ok(report) = serde_json::from_slice(&text) {
        let read = Modules::read(&report).await;
        modules.get_or_init(|| read);
    }
}

/// The client classes whose interfaces follow from their names.
fn known_clients() -> Vec<&'static str> {
    let mut known = InterfaceDescriptor::clients();
    known.push(COMPOSITE_CLIENT);
    known
}
