//! Replacing a file whole or not at all: a hidden sibling is written, then takes the file's name.

use crate::context::Context;
use crate::names::Names;
use crate::removal;
use crate::turn::Turn;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file in the making, beside the one that it replaces.
///
/// It is private (0600) and locked (`flock`) while it is written. [`commit`](Self::commit) gives it the mode of the
/// file it replaces (0644 for a new one), its owner where this process may, and its name; dropping it instead removes it. What a killed process left is
/// a sibling that nobody has locked: [`create`](Self::create) removes those.
///
/// Every method blocks: call them on a thread that may.
#[derive(Debug)]
pub struct StagedFile {
    /// `None` only while it is dropped.
    file: Option<File>,
    temporary: PathBuf,
    destination: PathBuf,
    committed: bool,
}

impl StagedFile {
    /// Makes the sibling of `destination` (of what it points to, for a symbolic link).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): `destination` has no file name, or is something else
    /// than a file. Otherwise what making a file fails with: the folder is missing, read-only, full.
    pub fn create(destination: &Path) -> io::Result<Self> {
        let destination = followed(destination);
        if std::fs::metadata(&destination).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(invalid(format!("{} is no regular file", destination.display())));
        }
        let Some(name) = destination.file_name() else {
            return Err(invalid(format!("`{}` names no file", destination.display())));
        };
        let names = Names::of(name);
        let folder = folder_of(&destination);
        names.remove_leftovers(folder);
        loop {
            let temporary = folder.join(names.next());
            let made =
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary);
            let file = match made {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(error)
                        .doing(|| format!("making a temporary file beside {}", destination.display()));
                }
            };
            let is_ours = match file.try_lock() {
                // Somebody tidied up between our two calls: try again under another name.
                Ok(()) => file.metadata().is_ok_and(|metadata| metadata.nlink() > 0),
                Err(TryLockError::WouldBlock) => false,
                // A file system without locks keeps leftovers, nothing worse.
                Err(TryLockError::Error(_)) => true,
            };
            if is_ours {
                return Ok(Self { file: Some(file), temporary, destination, committed: false });
            }
        }
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("the file is taken out only when its owner is dropped")
    }

    /// The file that will be replaced.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Writes everything to the disk and takes the destination's name; on an error the destination is as it was.
    ///
    /// # Errors
    /// What the disk fails with.
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

    /// Removes the temporary file, here and now: what dropping does on another thread.
    pub fn discard(mut self) {
        if let Some(file) = self.file.take() {
            remove(file, Some(&self.temporary).filter(|_| !self.committed).map(PathBuf::as_path));
        }
    }

    /// First part of [`commit`](Self::commit): the final mode, and everything on the disk. May take seconds.
    ///
    /// # Errors
    /// What the disk fails with.
    pub fn sync(&mut self) -> io::Result<()> {
        let old = std::fs::metadata(&self.destination).ok();
        if let (Some(old), Ok(new)) = (&old, self.file().metadata())
            && (old.uid(), old.gid()) != (new.uid(), new.gid())
        {
            // Before the mode, some of whose bits it clears. Only root may give files away.
            fchown(self.file(), Some(old.uid()), Some(old.gid())).ok();
        }
        let mode = old.map_or(0o644, |old| old.mode() & 0o7777);
        let done =
            self.file().set_permissions(Permissions::from_mode(mode)).and_then(|()| self.file().sync_all());
        done.doing(|| format!("writing {} to the disk", self.destination.display()))
    }

    /// Second part of [`commit`](Self::commit), and quick: the destination is the new file from here. Returns false, and
    /// changes nothing, when the caller whose `turn` it is went away before.
    ///
    /// # Errors
    /// What the disk fails with; the destination is then as it was.
    pub fn rename(&mut self, turn: &Turn) -> io::Result<bool> {
        let done = turn.last_step(&self.destination, || std::fs::rename(&self.temporary, &self.destination));
        let Some(done) = done else { return Ok(false) };
        done.doing(|| format!("replacing {}", self.destination.display()))?;
        self.committed = true;
        Ok(true)
    }

    /// Third part of [`commit`](Self::commit): makes the new name last a power cut. The file is in its place already, so
    /// that what fails here is a warning: a folder that this process may not read, a file system that cannot.
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
        // Closing, too, may take long: it frees the blocks of a file without a name, and some file systems write then.
        removal::later(move || remove(file, temporary.as_deref()));
    }
}

fn remove(file: File, temporary: Option<&Path>) {
    if let Some(temporary) = temporary
        && let Err(error) = std::fs::remove_file(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %temporary.display(), %error, "a temporary file stays behind");
    }
    drop(file);
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Where symbolic links lead, also to a file that is not there yet.
fn followed(path: &Path) -> PathBuf {
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::canonicalize(&path) {
            Ok(found) => return found,
            Err(_) => match std::fs::read_link(&path) {
                Ok(target) => path = folder_of(&path).join(target),
                Err(_) => return path,
            },
        }
    }
    path
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
