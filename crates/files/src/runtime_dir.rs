//! A private folder for sockets and other files, removed at its owner's end, and by the next one
//! after a crash.
//!
//! The owner holds a lock (`flock`) on the folder for as long as it lives; the system releases the
//! lock however the owner ends. [`RuntimeDir::create`] first removes the folders of its kind that
//! nobody holds any more. Programs that tidy the temporary folder, such as systemd-tmpfiles, leave
//! a locked folder alone. Where another one removed it all the same, [`RuntimeDir::ensure`] makes
//! it again.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::removal;
use crate::socket::SOCKET_PATH_LIMIT;
use crate::sweep::{NEW, hold, sweep};

/// Room for the names of sockets in the folder, with the separator.
const SOCKET_NAME_LIMIT: usize = 24;
/// Letters of chance in a folder's name.
const LETTERS: usize = 6;

/// A private folder (mode 0700), removed when it is dropped.
///
/// Dropping it never blocks: a thread removes the folder, and the process's exit waits for that
/// thread. [`close`] removes it on the caller's thread, and reports failures.
///
/// Making, checking and closing a folder are file calls, which may hang: make them where a thread
/// may block.
///
/// [`close`]: Self::close
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// The folder, opened and locked: the lock says that the owner lives. `None` once it is
    /// closed.
    held: Mutex<Option<File>>,
}

impl RuntimeDir {
    /// Makes a folder whose sockets' paths fit the system's limit: in `TMPDIR`, else in
    /// `XDG_RUNTIME_DIR` if that is this user's, else in `/tmp`. Removes what owners of the
    /// same `kind` that were killed left in these places.
    ///
    /// The folder is called `jmp-KIND-` and six letters; a folder of that name without an owner is
    /// removed, also if another program made it.
    ///
    /// # Errors
    /// The errors of the file system, if none of the places works.
    pub fn create(kind: &str) -> io::Result<Self> {
        Self::create_in(&places(), kind)
    }

    /// As [`RuntimeDir::create`], but in `XDG_RUNTIME_DIR` first: for sockets whose paths users
    /// see.
    ///
    /// # Errors
    /// The errors of the file system, if none of the places works.
    pub fn create_for_sockets(kind: &str) -> io::Result<Self> {
        let mut places = places();
        if places.len() > 2 {
            places.swap(0, 1);
        }
        Self::create_in(&places, kind)
    }

    /// Makes a folder in `TMPDIR`, however long its path: for files, which may be large, and not
    /// for sockets. In all else as [`RuntimeDir::create`].
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn create_for_files(kind: &str) -> io::Result<Self> {
        let (place, prefix) = (std::env::temp_dir(), prefix(kind));
        sweep(&place, &prefix);
        Self::create_at(&place, &prefix)
            .doing(|| format!("making a private folder in {}", place.display()))
    }

    /// Whether it is in `TMPDIR`, where large files belong.
    pub fn is_for_files(&self) -> bool {
        std::path::absolute(std::env::temp_dir())
            .is_ok_and(|place| self.path.parent() == Some(&place))
    }

    /// As [`RuntimeDir::create`], in the first of `places` that works and is short enough.
    ///
    /// # Errors
    /// The errors of the file system, of the last place; `InvalidInput` if all are too long.
    pub fn create_in(places: &[PathBuf], kind: &str) -> io::Result<Self> {
        let prefix = prefix(kind);
        let limit =
            SOCKET_PATH_LIMIT - SOCKET_NAME_LIMIT - (1 + prefix.len() + NEW.len() + LETTERS);
        let mut failure = None;
        for place in places.iter().filter(|place| is_at_most(place, limit)) {
            sweep(place, &prefix);
            match Self::create_at(place, &prefix) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    let message =
                        format!("making a private folder in {}: {error}", place.display());
                    failure = Some(io::Error::new(error.kind(), message));
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            let message = format!(
                "no folder for sockets has a path of at most {limit} bytes; set TMPDIR or XDG_RUNTIME_DIR to a shorter one"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        }))
    }

    fn create_at(place: &Path, prefix: &str) -> io::Result<Self> {
        let place = std::path::absolute(place)?;
        let new = format!("{prefix}{NEW}");
        let made = tempfile::Builder::new()
            .prefix(&new)
            .rand_bytes(LETTERS)
            .make_in(&place, make_private)?;
        // From here to the end, `made` removes nothing by itself: it holds the path only.
        let new = made.into_temp_path().keep()?;
        let locked = lock_and_name(&new);
        if locked.is_err() {
            fs::remove_dir_all(&new).ok();
        }
        let (path, held) = locked?;
        Ok(Self { path, held: Mutex::new(Some(held)) })
    }

    /// Removes what owners of that kind that were killed left, where [`RuntimeDir::create`] makes
    /// folders.
    pub fn sweep(kind: &str) {
        for place in places() {
            sweep(&place, &prefix(kind));
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file or socket in it.
    pub fn file(&self, name: &str) -> PathBuf {
        debug_assert!(name.len() < SOCKET_NAME_LIMIT, "{name}: the paths of sockets are limited");
        self.path.join(name)
    }

    /// Creates the folder again, empty and at the same path, if another program removed it. Returns
    /// whether it was missing.
    ///
    /// # Errors
    /// The errors of the file system; `AlreadyExists` if something else has the path; `NotFound`
    /// after [`close`](Self::close).
    pub fn ensure(&self) -> io::Result<bool> {
        let mut held = self.held();
        let Some(file) = held.as_ref() else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} was removed by its owner", self.path.display()),
            ));
        };
        if is_same(&self.path, file) {
            return Ok(false);
        }
        let doing = || format!("making the private folder {} again", self.path.display());
        make_private(&self.path).doing(doing)?;
        *held = Some(hold(&self.path).doing(doing)?);
        tracing::warn!(folder = %self.path.display(), "another program removed a private folder; it was made again");
        Ok(true)
    }

    /// Removes the folder with its contents, as dropping does, and reports failures.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn close(self) -> io::Result<()> {
        let held = self.held().take();
        held.map_or(Ok(()), |held| remove(&self.path, &held))
    }

    fn held(&self) -> MutexGuard<'_, Option<File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(held) = held {
            let path = std::mem::take(&mut self.path);
            removal::later(move || {
                if let Err(error) = remove(&path, &held) {
                    // It is removed by the next sweep.
                    tracing::debug!(%error, "a private folder stays behind");
                }
            });
        }
    }
}

/// Removes a folder while its lock is held, unless another one has its path by now.
fn remove(path: &Path, held: &File) -> io::Result<()> {
    if !is_same(path, held) {
        return Ok(());
    }
    let mut removed = fs::remove_dir_all(path);
    for _ in 1..REMOVALS {
        // A step that was cancelled may make its file meanwhile; it makes no second one.
        match &removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::yield_now();
                removed = fs::remove_dir_all(path);
            }
            _ => break,
        }
    }
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// How often a folder is removed in which files appear.
const REMOVALS: u32 = 16;

/// Whether the path leads to the folder that was opened.
fn is_same(path: &Path, held: &File) -> bool {
    match (fs::symlink_metadata(path), held.metadata()) {
        (Ok(there), Ok(held)) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
        _ => false,
    }
}

/// Start of the names of the folders of a kind.
fn prefix(kind: &str) -> String {
    format!("jmp-{kind}-")
}

/// Where a folder may be, best first.
fn places() -> Vec<PathBuf> {
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| is_usable(path));
    std::iter::once(std::env::temp_dir()).chain(runtime).chain([PathBuf::from("/tmp")]).collect()
}

/// Whether it is a runtime folder of this user: that of another one, as `sudo` and `su` leave it,
/// is not for us.
fn is_usable(runtime: &Path) -> bool {
    let us = rustix::process::geteuid().as_raw();
    runtime.is_absolute()
        && fs::metadata(runtime).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == us)
}

fn is_at_most(place: &Path, limit: usize) -> bool {
    std::path::absolute(place).is_ok_and(|path| path.as_os_str().as_bytes().len() <= limit)
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Locks a new folder and gives it its final name, under which it is swept once the lock is
/// released.
fn lock_and_name(new: &Path) -> io::Result<(PathBuf, File)> {
    let held = hold(new)?;
    let name = new.file_name().unwrap_or_default().to_string_lossy().replacen(NEW, "", 1);
    let path = new.with_file_name(name);
    fs::rename(new, &path)?;
    Ok((path, held))
}

#[cfg(test)]
mod tests;
