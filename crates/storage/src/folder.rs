//! A folder of the exporter's host.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{StorageCapability, StoredKind, StoredMetadata};
use jumpstarter_files::{ConfinedFile, ConfinedFolder, Entry, EntryKind, InnerPath};

use crate::backend::{Backend, Reading, Writing};

/// A folder that no path leaves.
pub(crate) struct Folder(pub(crate) Arc<ConfinedFolder>);

impl Folder {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ConfinedFolder) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.0.clone();
        blocking(move || Ok(work(&folder)?)).await
    }
}

#[async_trait]
impl Backend for Folder {
    async fn read(&self, path: &InnerPath) -> Result<Box<dyn Reading>> {
        let path = path.clone();
        let file = self.run(move |folder| folder.read(&path)).await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    async fn write(&self, path: &InnerPath) -> Result<Box<dyn Writing>> {
        let path = path.clone();
        let file = self.run(move |folder| folder.write(&path)).await?;
        Ok(Box::new(Staged(Some(file))))
    }

    async fn stat(&self, path: &InnerPath) -> Result<StoredMetadata> {
        let path = path.clone();
        let found = self.run(move |folder| folder.metadata(&path)).await?;
        let content_length = if found.is_file() { found.len() } else { 0 };
        let mode = StoredKind { is_file: found.is_file(), is_dir: found.is_dir() };
        Ok(StoredMetadata { content_length, mode, ..StoredMetadata::default() })
    }

    async fn copy(&self, from: &InnerPath, to: &InnerPath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |folder| folder.copy(&from, &to)).await
    }

    async fn rename(&self, from: &InnerPath, to: &InnerPath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |folder| folder.rename(&from, &to)).await
    }

    async fn remove_all(&self, path: &InnerPath) -> Result<()> {
        let path = path.clone();
        self.run(move |folder| folder.remove_all(&path)).await
    }

    async fn create_dir(&self, path: &InnerPath) -> Result<bool> {
        let path = path.clone();
        self.run(move |folder| folder.create_dir(&path)).await
    }

    async fn delete(&self, path: &InnerPath) -> Result<()> {
        let path = path.clone();
        self.run(move |folder| folder.delete(&path)).await
    }

    async fn list(&self, path: &InnerPath, deep: bool) -> Result<ValueStream<String>> {
        let mut walk = Walk { folder: self.0.clone(), found: Vec::new(), below: Vec::new(), deep };
        let (folder, prefix) = match path.is_folder() {
            true => (path.as_str(), None),
            false => match path.as_str().rsplit_once('/') {
                Some((folder, prefix)) => (folder, Some(prefix)),
                None => ("", Some(path.as_str())),
            },
        };
        let listed = match walk.list(folder).await {
            Err(error) if is_absent(&error) => return Ok(stream::empty().boxed()),
            listed => listed?,
        };
        walk.add(folder, listed, |name| prefix.is_none_or(|prefix| name.starts_with(prefix)));
        if prefix.is_none() {
            walk.found.push(path.to_string());
        }
        let entries = stream::unfold(walk, async |mut walk| {
            let next = walk.next().await.transpose()?;
            Some((next, walk))
        });
        Ok(entries.boxed())
    }

    fn capability(&self) -> StorageCapability {
        StorageCapability {
            stat: true,
            read: true,
            write: true,
            write_can_multi: true,
            write_can_empty: true,
            create_dir: true,
            delete: true,
            copy: true,
            rename: true,
            list: true,
            list_with_recursive: true,
            shared: true,
            ..StorageCapability::default()
        }
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound) || is_no_folder(error)
}

fn is_no_folder(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.is_some_and(|io: &std::io::Error| io.kind() == std::io::ErrorKind::NotADirectory)
}

/// A listing on its way.
struct Walk {
    folder: Arc<ConfinedFolder>,
    /// What comes next, the last one first.
    found: Vec<String>,
    /// Folders whose turn comes later.
    below: Vec<String>,
    deep: bool,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(found) = self.found.pop() {
                return Ok(Some(found));
            }
            let Some(below) = self.below.pop() else { return Ok(None) };
            match self.list(&below).await {
                // It was removed, or replaced, meanwhile.
                Err(error) if is_absent(&error) => {}
                listed => self.add(&below, listed?, |_| true),
            }
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let (opened, path) = (self.folder.clone(), InnerPath::new(folder)?);
        blocking(move || Ok(opened.list(&path)?)).await
    }

    fn add(&mut self, folder: &str, entries: Vec<Entry>, wanted: impl Fn(&str) -> bool) {
        let wanted = entries.into_iter().rev().filter(|entry| wanted(&entry.name));
        for entry in wanted {
            let above = if folder.is_empty() { "" } else { "/" };
            let path = format!("{folder}{above}{}", entry.name);
            // Links could lead in a circle.
            if self.deep && entry.kind == EntryKind::Folder && !entry.is_link {
                self.below.push(path.clone());
            }
            let slash = if entry.kind == EntryKind::Folder { "/" } else { "" };
            self.found.push(path + slash);
        }
    }
}

/// A file of a folder; `None` after a write that failed or was cancelled.
struct Staged(Option<ConfinedFile>);

impl Staged {
    fn take(&mut self) -> Result<ConfinedFile> {
        self.0.take().ok_or_else(|| Error::aborted("an earlier write did not end"))
    }
}

#[async_trait]
impl Writing for Staged {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let file = self.take()?;
        let written = blocking(move || {
            file.file().write_all(&bytes)?;
            Ok(file)
        });
        self.0 = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let file = self.take()?;
        blocking(move || Ok(file.commit()?)).await
    }
}
