//! A file in the making below a confined folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::descriptor_path;
use crate::removal;
use crate::staged::StagedFile;

/// A file in the making below a [`ConfinedFolder`](super::ConfinedFolder): see
/// [`StagedFile`](crate::StagedFile). Dropping it removes it.
#[derive(Debug)]
pub struct ConfinedFile {
    /// `None` only while it is dropped.
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    staged: StagedFile,
    /// The paths of the staged file go through this descriptor.
    folder: OwnedFd,
}

impl ConfinedFile {
    pub(super) fn stage(folder: OwnedFd, name: &OsStr) -> io::Result<Self> {
        let staged = StagedFile::stage_at(descriptor_path(&folder).join(name));
        let staged = staged.map_err(|refusal| plain(&folder, refusal.error))?;
        Ok(Self { parts: Some(Parts { staged, folder }) })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        let parts = self.parts.as_ref();
        parts.expect("the parts are taken out only when their owner is dropped").staged.file()
    }

    /// Writes everything to the disk; then the file takes its name.
    ///
    /// # Errors
    /// The errors of the disk; the old file is as it was.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(Parts { staged, folder }) = self.parts.take() else { return Ok(()) };
        staged.commit().map_err(|error| plain(&folder, error))
    }

    /// Removes it here and now.
    pub fn discard(mut self) {
        if let Some(parts) = self.parts.take() {
            parts.staged.discard();
        }
    }
}

impl Drop for ConfinedFile {
    fn drop(&mut self) {
        let Some(Parts { staged, folder }) = self.parts.take() else { return };
        removal::later(move || {
            staged.discard();
            drop(folder);
        });
    }
}

/// The error without the detour over the descriptor.
fn plain(folder: &OwnedFd, error: io::Error) -> io::Error {
    let detour = format!("{}/", descriptor_path(folder).display());
    let message = error.to_string();
    match message.contains(&detour) {
        true => io::Error::new(error.kind(), message.replace(&detour, "")),
        false => error,
    }
}
