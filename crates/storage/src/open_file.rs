//! Files that clients have open.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{Error, Result};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Mutex;

use crate::backend::{Reading, Writing};

/// So many files may be open at a time.
const MAX_OPEN: usize = 256;
/// So many closed files are known as closed.
const MAX_CLOSED: usize = 1024;

/// One of the two ends that a file can have.
pub(crate) enum OpenFile {
    Read(Box<dyn Reading>),
    Write(Box<dyn Writing>),
    /// A write failed or was cancelled: closing drops the file.
    Broken,
}

/// An open file and its path. Calls of one file wait for each other.
pub(crate) struct Handle {
    pub(crate) path: String,
    pub(crate) is_writer: bool,
    pub(crate) file: Mutex<Option<OpenFile>>,
}

impl Handle {
    /// Whether it is open for writing, and no write has failed.
    pub(crate) fn takes_writes(&self) -> bool {
        let is_broken = || matches!(self.file.try_lock().as_deref(), Ok(Some(OpenFile::Broken)));
        self.is_writer && !is_broken()
    }
}

/// The open files by their handles.
#[derive(Default)]
pub(crate) struct OpenFiles {
    open: HashMap<String, Arc<Handle>>,
    /// The oldest first.
    closed: VecDeque<String>,
}

impl OpenFiles {
    /// Fails with `ResourceExhausted` if no more may be opened.
    pub(crate) fn check_room(&self) -> Result<()> {
        if self.open.len() < MAX_OPEN {
            return Ok(());
        }
        Err(Error::resource_exhausted(format!("{MAX_OPEN} files are open"))
            .with_hint("close files that are not needed any more"))
    }

    /// Adds a file and returns its handle.
    pub(crate) fn add(&mut self, path: String, file: OpenFile) -> Result<String> {
        self.check_room()?;
        let id = random()?;
        let is_writer = matches!(file, OpenFile::Write(_));
        let handle = Handle { path, is_writer, file: Mutex::new(Some(file)) };
        self.open.insert(id.clone(), Arc::new(handle));
        Ok(id)
    }

    /// The open file of a handle; `None` if it is closed.
    pub(crate) fn get(&self, id: &str) -> Result<Option<Arc<Handle>>> {
        match self.open.get(id) {
            Some(handle) => Ok(Some(handle.clone())),
            None if self.closed.iter().any(|closed| closed == id) => Ok(None),
            None => Err(Error::not_found(format!("there is no open file `{}`", id.escape_debug()))
                .with_hint("`open` returns the handle of a file")),
        }
    }

    /// Takes an open file out; `None` if it is closed already.
    pub(crate) fn close(&mut self, id: &str) -> Result<Option<Arc<Handle>>> {
        self.get(id)?;
        let Some(handle) = self.open.remove(id) else { return Ok(None) };
        if self.closed.len() >= MAX_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(id.to_owned());
        Ok(Some(handle))
    }
}

/// A random handle in the form of a version 4 UUID, as in Python.
fn random() -> Result<String> {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the system has no random numbers"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
