//! The process that forks those of hosted drivers: one for each interpreter, as long as this
//! program.
//!
//! It imports Jumpstarter and the packages of the file once. A process that is forked from it
//! begins with them in memory, which it shares with the others.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{COMPOSITE_CLIENT, InterfaceDescriptor};
use jumpstarter_files::RuntimeDir;
use jumpstarter_supervise::{Child as Process, Command, Input};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::sync::Mutex;

use crate::interpreter;

/// The kind of the folders that have the sockets of hosted drivers.
pub(crate) const KIND: &str = "python";
pub(crate) const SCRIPT: &str = include_str!("bootstrap.py");
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
    process: Process,
    control: UnixStream,
}

impl Server {
    /// The server of `key`, started if it does not run yet; it imports `modules` then.
    pub(crate) async fn of(key: &Key, modules: &[String]) -> Result<Arc<Self>> {
        let mut servers = SERVERS.lock().await;
        let servers = servers.get_or_insert_default();
        if let Some(server) = servers.get(key).filter(|server| server.process.is_running()) {
            return Ok(server.clone());
        }
        let server = Arc::new(Self::start(key, modules).await?);
        servers.insert(key.clone(), server.clone());
        Ok(server)
    }

    /// Has the next process started by another server, which imports everything anew.
    pub(crate) async fn retire(self: &Arc<Self>, key: &Key) {
        let mut servers = SERVERS.lock().await;
        let servers = servers.get_or_insert_default();
        if servers.get(key).is_some_and(|server| Arc::ptr_eq(server, self)) {
            servers.remove(key);
        }
    }

    async fn start(key: &Key, modules: &[String]) -> Result<Self> {
        blocking(|| {
            RuntimeDir::sweep(KIND);
            Ok(())
        })
        .await?;
        let (control, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let command = Command::new(&key.python)
            .args(["-", "serve", &theirs.as_raw_fd().to_string()])
            .arg(key.folder.as_deref().unwrap_or(Path::new("")))
            .arg(known_clients().join(","))
            .args(modules)
            .stdin(Input::Bytes(SCRIPT.as_bytes().to_vec()))
            .keep_fd(theirs)
            .install_hint(interpreter::HINT);
        Ok(Self { process: command.spawn().await?, control })
    }

    /// Forks a process, which is given these ends of its control socket and of the pipe for its
    /// output.
    pub(crate) fn fork(&self, control: &OwnedFd, output: &OwnedFd) -> Result<()> {
        let descriptors = [control.as_fd(), output.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let text = [IoSlice::new(b"fork\n")];
        sendmsg(&self.control, &text, &mut ancillary, SendFlags::NOSIGNAL).map_err(|error| {
            Error::unavailable("the process that starts those in Python has ended")
                .with_source(std::io::Error::from(error))
        })?;
        Ok(())
    }

    /// Ends a process that does not end by itself, and all that it started.
    pub(crate) fn kill(&self, process: u32) {
        let text = format!("{process}\n");
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

/// The client classes whose interfaces follow from their names.
fn known_clients() -> Vec<&'static str> {
    let mut known = InterfaceDescriptor::clients();
    known.push(COMPOSITE_CLIENT);
    known
}
