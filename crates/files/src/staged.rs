//! Replacing a file whole or not at all: a hidden sibling is written, then takes the file's name.

use crate::attributes::{has_mode, set_mode, take_over};
use crate::context::Context;
use crate::destination::{folder_of, followed, invalid};
use crate::names::Names;
use crate::obstacle::obstacle;
use crate::removal;
use crate::turn::Turn;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// While it is written, a file is its owner's alone.
const PRIVATE: u32 = 0o600;
/// What a new file may be, before the umask or its folder's access list takes rights away.
const NEW: u32 = 0o666;

/// A file in the making, beside the one that it replaces.
///
/// It is private (0600) and locked (`flock`) while it is written. [`commit`](Self::commit) gives it
/// its name and its final mode. A file that replaces another one takes over its owner, if this
/// process may give it away, its mode, access list, label and other extended attributes; the umask
/// and the folder decide those of a new one.
///
/// Dropping it instead removes it, on another thread. A killed process leaves a sibling that nobody
/// has locked: [`create`](Self::create) removes those.
///
/// Every method blocks: call them on a thread that may.
#[derive(Debug)]
pub struct StagedFile {
    /// `None` only while it is dropped.
    file: Option<File>,
    temporary: PathBuf,
    destination: PathBuf,
    /// The final mode; `None` where the file has it, or where the file system lets nobody set it.
    mode: Option<u32>,
    committed: bool,
}

/// Why a file cannot be replaced.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: io::Error,
    /// Whether writing the old file in place is another way.
    pub(crate) in_place: bool,
}

impl StagedFile {
    /// Makes the sibling of `destination` (of what it points to, for a symbolic link).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `destination` has no file name, or is not a
    /// file. [`ResourceBusy`](io::ErrorKind::ResourceBusy) if the file cannot be replaced, or not
    /// by one with the same access list and attributes: it is a mount point, a loop device uses it,
    /// it is immutable. Otherwise the errors of creating a file: the folder is missing, read-only,
    /// full.
    pub fn create(destination: &Path) -> io::Result<Self> {
        Self::stage(destination).map_err(|refusal| refusal.error)
    }

    pub(crate) fn stage(destination: &Path) -> Result<Self, Refusal> {
        Self::stage_at(followed(destination))
    }

    /// As [`stage`](Self::stage), at a path that is used as it is.
    pub(crate) fn stage_at(destination: PathBuf) -> Result<Self, Refusal> {
        let refuse = |error| Refusal { error, in_place: false };
        let old = match std::fs::metadata(&destination) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(refuse(error).at(&destination)),
        };
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            return Err(refuse(invalid(format!("{} is no regular file", destination.display()))));
        }
        let Some(name) = destination.file_name() else {
            return Err(refuse(invalid(format!("`{}` names no file", destination.display()))));
        };
        let folder = folder_of(&destination);
        if let Some(old) = &old
            && let Some(why) = obstacle(&destination, old, folder)
        {
            return Err(kept(&destination, why));
        }
        let names = Names::new(name);
        names.remove_leftovers(folder);
        let (file, temporary) = make(folder, &names, if old.is_some() { PRIVATE } else { NEW })
            .map_err(|error| Refusal { in_place: old.is_some() && has_another_way(&error), error })
            .map_err(|refusal| refusal.beside(&destination))?;
        let mut staged =
            Self { file: Some(file), temporary, destination, mode: None, committed: false };
        match staged.dress(old.as_ref(), &names) {
            Ok(()) => Ok(staged),
            Err(error) => {
                let refusal = kept(&staged.destination, &error.to_string());
                staged.discard();
                Err(refusal)
            }
        }
    }

    /// Gives the new file what the old one has, and makes it private until it is complete.
    fn dress(&mut self, old: Option<&Metadata>, names: &Names) -> io::Result<()> {
        let Some(old) = old else {
            let mode = self.file().metadata()?.mode() & 0o7777;
            self.mode = set_mode(self.file(), PRIVATE).then_some(mode);
            return Ok(());
        };
        let mode = take_over(&self.destination, old, self.file())?;
        if set_mode(self.file(), mode) {
            self.mode = Some(mode);
            set_mode(self.file(), PRIVATE);
        } else if !has_mode(self.file(), mode) {
            // The mode that a file has from its beginning may be another matter.
            let (file, temporary) = make(folder_of(&self.destination), names, mode & 0o777)?;
            take_over(&self.destination, old, &file)?;
            let (file, temporary) =
                (self.file.replace(file), std::mem::replace(&mut self.temporary, temporary));
            remove(file, Some(&temporary));
            if !has_mode(self.file(), mode) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("its mode {:o} cannot be kept", mode & 0o777),
                ));
            }
        }
        Ok(())
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("the file is taken out only when its owner is dropped")
    }

    /// The file's name for now, for a program that writes it.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The file that will be replaced.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Writes everything to the disk and takes the destination's name; on an error the destination
    /// is as it was.
    ///
    /// # Errors
    /// The errors of the disk.
    pub fn commit(mut self) -> io::Result<()> {
        match self.sync().and_then(|()| self.rename(&Turn::default())) {
            Ok(_) => {
                self.sync_folder();
                Ok(())
            }
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    /// As [`commit`](Self::commit), where nothing has the destination's name yet.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for an existing file, which stays unchanged.
    /// Otherwise the errors of the disk.
    pub fn commit_new(mut self) -> io::Result<()> {
        // A link, unlike a rename, fails when the name is taken.
        let linked = self.sync().and_then(|()| {
            std::fs::hard_link(&self.temporary, &self.destination)
                .doing(|| format!("making {}", self.destination.display()))
        });
        if linked.is_ok() {
            self.sync_folder();
        }
        self.discard();
        linked
    }

    /// Removes the temporary file, here and now: what dropping does on another thread.
    pub fn discard(mut self) {
        if let Some(file) = self.file.take() {
            remove(
                Some(file),
                Some(&self.temporary).filter(|_| !self.committed).map(PathBuf::as_path),
            );
        }
    }

    /// First part of [`commit`](Self::commit): the final mode, and everything on the disk. May take
    /// seconds.
    ///
    /// # Errors
    /// The errors of the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(mode) = self.mode
            && !set_mode(self.file(), mode)
        {
            // It could be set a moment ago. The file is whole, and its owner can read it.
            tracing::warn!(file = %self.destination.display(), "the mode could not be set to {mode:o}");
        }
        sync_file(self.file())
            .doing(|| format!("writing {} to the disk", self.destination.display()))
    }

    /// Second part of [`commit`](Self::commit), and quick: the destination is the new file from
    /// here. Returns false, and changes nothing, when the caller whose `turn` it is went away
    /// before.
    ///
    /// # Errors
    /// What the disk fails with; the destination is then as it was.
    pub fn rename(&mut self, turn: &Turn) -> io::Result<bool> {
        let done = turn
            .last_step(&self.destination, || std::fs::rename(&self.temporary, &self.destination));
        let Some(done) = done else { return Ok(false) };
        done.doing(|| format!("replacing {}", self.destination.display()))?;
        self.committed = true;
        Ok(true)
    }

    /// Third part of [`commit`](Self::commit): makes the new name last a power cut. The file is in
    /// its place already, so that what fails here is a warning: a folder that this process may
    /// not read, a file system that cannot.
    pub fn sync_folder(&self) {
        let folder = File::open(folder_of(&self.destination)).and_then(|folder| folder.sync_all());
        // The whole file system, its folders too.
        let synced = folder.or_else(|_| rustix::fs::syncfs(self.file()).map_err(io::Error::from));
        if let Err(error) = synced {
            let file = self.destination.display();
            tracing::warn!(%file, %error, "the new file is in its place, and a power cut may undo that");
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let temporary = (!self.committed).then(|| std::mem::take(&mut self.temporary));
        // Closing, too, may take long: it frees the blocks of a file without a name, and some file
        // systems write then.
        removal::later(move || remove(Some(file), temporary.as_deref()));
    }
}

fn remove(file: Option<File>, temporary: Option<&Path>) {
    if let Some(temporary) = temporary
        && let Err(error) = std::fs::remove_file(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %temporary.display(), %error, "a temporary file stays behind");
    }
    drop(file);
}

/// Makes a locked file of a name that is free.
fn make(folder: &Path, names: &Names, mode: u32) -> io::Result<(File, PathBuf)> {
    loop {
        let temporary = folder.join(names.next());
        let made =
            OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&temporary);
        let file = match made {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        let is_ours = match file.try_lock() {
            // Somebody tidied up between our two calls: try again under another name.
            Ok(()) => file.metadata().is_ok_and(|metadata| metadata.nlink() > 0),
            Err(TryLockError::WouldBlock) => false,
            // A file system without locks keeps leftovers, nothing worse.
            Err(TryLockError::Error(_)) => true,
        };
        if is_ours {
            return Ok((file, temporary));
        }
    }
}

/// Has everything written to the disk, where that means something: a file system may have no disk.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

/// A full disk is no reason to destroy the old file, and a missing folder has none.
fn has_another_way(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, QuotaExceeded, StorageFull};
    !matches!(error.kind(), NotFound | StorageFull | QuotaExceeded)
}

fn kept(destination: &Path, why: &str) -> Refusal {
    let message = format!("{} cannot be replaced: {why}", destination.display());
    Refusal { error: io::Error::new(io::ErrorKind::ResourceBusy, message), in_place: true }
}

impl Refusal {
    fn doing(self, doing: String) -> Self {
        let error = io::Error::new(self.error.kind(), format!("{doing}: {}", self.error));
        Self { error, ..self }
    }

    fn at(self, destination: &Path) -> Self {
        self.doing(format!("looking at {}", destination.display()))
    }

    fn beside(self, destination: &Path) -> Self {
        self.doing(format!("making a temporary file beside {}", destination.display()))
    }
}
