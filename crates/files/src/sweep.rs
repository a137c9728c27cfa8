//! Removing the private folders of processes that were killed.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

/// Follows the kind in the name of a folder that is still being created: it is not locked yet.
pub(crate) const NEW: &str = "new-";
/// A folder that is still being created after this time belongs to a killed process.
const MAKING_TAKES: Duration = Duration::from_secs(3600);

/// Removes the folders in `place` whose names begin with `prefix`, that belong to this user, and
/// that nobody holds. Failures are left for the next time.
pub(crate) fn sweep(place: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let is_ours = metadata.is_dir() && metadata.uid() == us;
        if !is_ours || rest.starts_with(NEW) && !is_old(&metadata) {
            continue;
        }
        // Held until the folder is removed, so that two concurrent sweeps do not collide.
        let Some(_lock) = open_folder(&path).ok().filter(|folder| folder.try_lock().is_ok()) else {
            continue;
        };
        tracing::debug!(folder = %path.display(), "removing what a process that was killed left");
        fs::remove_dir_all(&path).ok();
    }
}

fn is_old(new: &Metadata) -> bool {
    let age = new.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > MAKING_TAKES)
}

/// Opens only a folder: neither a link's target nor a pipe, which would wait for its other end.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Opens a folder of this process and locks it for the life of the file.
pub(crate) fn hold(path: &Path) -> io::Result<File> {
    let folder = open_folder(path)?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another process holds {}", path.display()),
        )),
        Err(TryLockError::Error(error)) => {
            // A file system without locks. The folder is safe: a sweep that cannot lock it leaves
            // it alone.
            tracing::debug!(%error, folder = %path.display(), "a private folder cannot be locked");
            Ok(folder)
        }
    }
}
