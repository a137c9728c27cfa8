//! The driver of a storage.

use std::collections::BTreeSet;
use std::fmt;
use std::io::SeekFrom;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{
    FileMode, HashAlgorithm, PresignedRequest, Storage, StorageCapability, StoredMetadata,
};
use jumpstarter_files::{ConfinedFolder, InnerPath};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::backend::{Backend, Presigned};
use crate::folder::Folder;
use crate::hash::hash;
use crate::open_file::{Handle, OpenFile, OpenFiles};

/// How much of a file is read at once.
const PIECE: usize = 256 * 1024;

/// Stores files in a [`Backend`], and knows which were made.
pub struct StorageDriver {
    /// `None` once the driver is closed: what it holds is released then.
    backend: Mutex<Option<Arc<dyn Backend>>>,
    removes_created: bool,
    files: Mutex<OpenFiles>,
    created: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for StorageDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageDriver")
            .field("removes_created", &self.removes_created)
            .field("created", &self.created())
            .finish_non_exhaustive()
    }
}

impl StorageDriver {
    /// Stores in a backend. With `removes_created`, closing and resetting the driver removes what
    /// was made.
    pub fn new(backend: Arc<dyn Backend>, removes_created: bool) -> Self {
        let (files, created) = (Mutex::default(), Mutex::default());
        Self { backend: Mutex::new(Some(backend)), removes_created, files, created }
    }

    /// Stores in a folder of this machine.
    pub fn folder(folder: Arc<ConfinedFolder>, removes_created: bool) -> Self {
        Self::new(Arc::new(Folder(folder)), removes_created)
    }

    fn backend(&self) -> Result<Arc<dyn Backend>> {
        let backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner).clone();
        backend.ok_or_else(|| Error::failed_precondition("the storage is closed"))
    }

    fn files(&self) -> MutexGuard<'_, OpenFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn created(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_created(&self, path: &InnerPath) {
        if !path.is_root() {
            self.created().insert(path.as_str().to_owned());
        }
    }

    fn open_file(&self, fd: &str) -> Result<Arc<Handle>> {
        let handle = self.files().get(fd)?;
        handle.ok_or_else(|| Error::failed_precondition("the file is closed"))
    }

    /// Closes what is open, and removes what was made if that is configured.
    async fn clear(&self) -> Result<()> {
        drop(std::mem::take(&mut *self.files()));
        let created = std::mem::take(&mut *self.created());
        if !self.removes_created || created.is_empty() {
            return Ok(());
        }
        let backend = self.backend()?;
        let mut outcome = Ok(());
        // What is in a folder comes before the folder.
        for path in created.iter().rev() {
            let path = InnerPath::new(path)?;
            let removed = backend.remove_all(&path).await;
            outcome = outcome.and(removed.with_context(|| format!("removing {path}")));
        }
        outcome
    }
}

fn inner(path: &str) -> Result<InnerPath> {
    Ok(InnerPath::new(path)?)
}

fn not_for(handle: &Handle, wanted: &str) -> Error {
    let mode = if handle.is_writer { "writing" } else { "reading" };
    let path = &handle.path;
    Error::failed_precondition(format!("{path} is open for {mode}, not for {wanted}"))
}

#[async_trait]
impl Driver for StorageDriver {
    interfaces!(Storage);

    async fn reset(&self) -> Result<()> {
        self.clear().await
    }

    async fn close(&self) -> Result<()> {
        let outcome = self.clear().await;
        self.backend.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome
    }
}

#[async_trait]
impl Storage for StorageDriver {
    async fn open(&self, path: String, mode: FileMode) -> Result<String> {
        let inner = inner(&path)?;
        self.files().check_room()?;
        let file = match mode {
            FileMode::Read => {
                let opened = self.backend()?.read(&inner).await;
                OpenFile::Read(opened.with_context(|| format!("opening {inner}"))?)
            }
            FileMode::Write => {
                let opened = self.backend()?.write(&inner).await;
                let opened = opened.with_context(|| format!("opening {inner} to write it"))?;
                self.add_created(&inner);
                OpenFile::Write(opened)
            }
        };
        self.files().add(inner.to_string(), file)
    }

    async fn file_read(&self, fd: String, mut dst: ImageSink) -> Result<()> {
        let handle = self.open_file(&fd)?;
        let mut file = handle.file.lock().await;
        let Some(OpenFile::Read(reader)) = &mut *file else {
            return Err(not_for(&handle, "reading"));
        };
        let position = reader.stream_position().await?;
        let end = reader.seek(SeekFrom::End(0)).await?;
        reader.seek(SeekFrom::Start(position)).await?;
        dst.announce(Some(end.saturating_sub(position)));
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            let count = reader.read_buf(&mut piece).await;
            if count.with_context(|| format!("reading {}", handle.path))? == 0 {
                return dst.finish().await;
            }
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
            dst.write(Bytes::from(full)).await?;
        }
    }

    async fn file_write(&self, fd: String, src: ImageSource) -> Result<()> {
        let handle = self.open_file(&fd)?;
        let mut file = handle.file.lock().await;
        if !handle.is_writer {
            return Err(not_for(&handle, "writing"));
        }
        let Some(OpenFile::Write(mut writer)) = file.replace(OpenFile::Broken) else {
            return Err(Error::aborted(format!("{}: an earlier write failed", handle.path)));
        };
        let mut source = src.open().await?;
        while let Some(bytes) = source.receive().await? {
            writer.write(bytes).await.with_context(|| format!("writing {}", handle.path))?;
        }
        *file = Some(OpenFile::Write(writer));
        Ok(())
    }

    async fn file_seek(&self, fd: String, pos: i64, whence: Option<u32>) -> Result<u64> {
        let handle = self.open_file(&fd)?;
        let mut file = handle.file.lock().await;
        let Some(OpenFile::Read(reader)) = &mut *file else {
            return Err(not_for(&handle, "moving in it"));
        };
        let to = match (whence.unwrap_or(0), u64::try_from(pos)) {
            (0, Ok(pos)) => SeekFrom::Start(pos),
            (1, _) => SeekFrom::Current(pos),
            (2, _) => SeekFrom::End(pos),
            (0, Err(_)) => {
                return Err(Error::invalid_argument(format!("position {pos} is before the start")));
            }
            (whence, _) => {
                return Err(Error::invalid_argument(format!("whence is 0, 1 or 2, not {whence}")));
            }
        };
        Ok(reader.seek(to).await?)
    }

    async fn file_tell(&self, fd: String) -> Result<u64> {
        let handle = self.open_file(&fd)?;
        let mut file = handle.file.lock().await;
        match &mut *file {
            Some(OpenFile::Read(reader)) => Ok(reader.stream_position().await?),
            _ => Err(not_for(&handle, "moving in it")),
        }
    }

    async fn file_close(&self, fd: String) -> Result<()> {
        let Some(handle) = self.files().close(&fd)? else { return Ok(()) };
        let file = handle.file.lock().await.take();
        match file {
            Some(OpenFile::Write(writer)) => {
                writer.finish().await.with_context(|| format!("completing {}", handle.path))
            }
            _ => Ok(()),
        }
    }

    async fn file_closed(&self, fd: String) -> Result<bool> {
        Ok(self.files().get(&fd)?.is_none())
    }

    async fn file_readable(&self, fd: String) -> Result<bool> {
        Ok(self.files().get(&fd)?.is_some_and(|handle| !handle.is_writer))
    }

    async fn file_seekable(&self, fd: String) -> Result<bool> {
        self.file_readable(fd).await
    }

    async fn file_writable(&self, fd: String) -> Result<bool> {
        Ok(self.files().get(&fd)?.is_some_and(|handle| handle.takes_writes()))
    }

    async fn stat(&self, path: String) -> Result<StoredMetadata> {
        let path = inner(&path)?;
        self.backend()?.stat(&path).await.with_context(|| format!("looking at {path}"))
    }

    async fn hash(&self, path: String, algo: Option<HashAlgorithm>) -> Result<String> {
        let path = inner(&path)?;
        let read =
            async { hash(self.backend()?.read(&path).await?, algo.unwrap_or_default()).await };
        read.await.with_context(|| format!("reading {path}"))
    }

    async fn copy(&self, source: String, target: String) -> Result<()> {
        let (source, target) = (inner(&source)?, inner(&target)?);
        let copied = self.backend()?.copy(&source, &target).await;
        copied.with_context(|| format!("copying {source} to {target}"))?;
        self.add_created(&target);
        Ok(())
    }

    async fn rename(&self, source: String, target: String) -> Result<()> {
        let (source, target) = (inner(&source)?, inner(&target)?);
        let renamed = self.backend()?.rename(&source, &target).await;
        renamed.with_context(|| format!("renaming {source} to {target}"))?;
        self.created().remove(source.as_str());
        self.add_created(&target);
        Ok(())
    }

    async fn remove_all(&self, path: String) -> Result<()> {
        let path = inner(&path)?;
        let removed = self.backend()?.remove_all(&path).await;
        removed.with_context(|| format!("removing {path}"))?;
        self.created().remove(path.as_str());
        Ok(())
    }

    async fn create_dir(&self, path: String) -> Result<()> {
        let path = inner(&path)?;
        if !path.is_folder() {
            let message = format!("making the folder {path}: the path does not end with /");
            return Err(Error::invalid_argument(message).with_hint(format!("write {path}/")));
        }
        let made = self.backend()?.create_dir(&path).await;
        // A folder that was there before is not removed when the driver closes.
        if made.with_context(|| format!("making the folder {path}"))? {
            self.add_created(&path);
        }
        Ok(())
    }

    async fn delete(&self, path: String) -> Result<()> {
        let path = inner(&path)?;
        let removed = self.backend()?.delete(&path).await;
        removed.with_context(|| format!("removing {path}"))?;
        self.created().remove(path.as_str());
        Ok(())
    }

    async fn exists(&self, path: String) -> Result<bool> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, path: String) -> Result<ValueStream<String>> {
        let path = inner(&path)?;
        self.backend()?.list(&path, false).await.with_context(|| format!("listing {path}"))
    }

    async fn scan(&self, path: String) -> Result<ValueStream<String>> {
        let path = inner(&path)?;
        self.backend()?.list(&path, true).await.with_context(|| format!("listing {path}"))
    }

    async fn presign_stat(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        self.presign(Presigned::Stat, &path, expire_second).await
    }

    async fn presign_read(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        self.presign(Presigned::Read, &path, expire_second).await
    }

    async fn presign_write(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        self.presign(Presigned::Write, &path, expire_second).await
    }

    async fn capability(&self) -> Result<StorageCapability> {
        Ok(self.backend()?.capability())
    }

    async fn get_created_resources(&self) -> Result<Vec<String>> {
        Ok(self.created().iter().cloned().collect())
    }

    async fn register_path(&self, path: String) -> Result<()> {
        self.add_created(&inner(&path)?);
        Ok(())
    }
}

impl StorageDriver {
    async fn presign(
        &self,
        what: Presigned,
        path: &str,
        expire_second: u64,
    ) -> Result<PresignedRequest> {
        let (path, valid) = (inner(path)?, Duration::from_secs(expire_second));
        let signed = self.backend()?.presign(what, &path, valid).await;
        signed.with_context(|| format!("signing a request for {path}"))
    }
}
