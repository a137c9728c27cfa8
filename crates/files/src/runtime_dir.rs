//! A private folder for sockets and other files, removed at its owner's end, and by the next one after a crash.
//!
//! The owner holds a lock (`flock`) on the file `lock` in it for as long as it lives; the system releases the lock however
//! the owner ends. [`RuntimeDir::create`] first removes the folders of its kind that nobody holds any more.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Follows the kind in the name of a folder that is still being made: it cannot be told from a crashed one by its lock.
const NEW: &str = "new-";
/// A folder still being made after this time belongs to a process that was killed.
const MAKING_TAKES: Duration = Duration::from_secs(3600);
/// The longest path of a socket, in bytes, without the NUL at its end: 107 on Linux, 103 on macOS.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Room for the names of sockets in the folder, with the separator.
const SOCKET_NAME_LIMIT: usize = 24;
/// Letters of chance in a folder's name.
const LETTERS: usize = 6;

/// A private folder (mode 0700), removed when it is dropped.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Held, never read: its lock says that the owner lives.
    _lock: File,
}

impl RuntimeDir {
    /// Makes a folder whose sockets' paths fit the system's limit: in `TMPDIR`, else in `XDG_RUNTIME_DIR`, else in
    /// `/tmp`. Removes what owners of the same `kind` that were killed left in these places.
    ///
    /// The folder is called `jmp-KIND-` and six letters; a folder of that name without an owner is removed, whoever
    /// made it.
    ///
    /// # Errors
    /// Those of the file system, when none of the places works.
    pub fn create(kind: &str) -> io::Result<Self> {
        Self::create_in(&places(), kind)
    }

    /// Makes a folder in `TMPDIR`, however long its path: for files, which may be large, and not for sockets. In all else
    /// as [`RuntimeDir::create`].
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_for_files(kind: &str) -> io::Result<Self> {
        let (place, prefix) = (std::env::temp_dir(), prefix(kind));
        sweep(&place, &prefix);
        Self::create_at(&place, &prefix).map_err(|error| {
            let message = format!("make a private folder in {}: {error}", place.display());
            io::Error::new(error.kind(), message)
        })
    }

    /// Whether it is in `TMPDIR`, where large files belong.
    pub fn is_for_files(&self) -> bool {
        std::path::absolute(std::env::temp_dir()).is_ok_and(|place| self.path.parent() == Some(&place))
    }

    /// As [`RuntimeDir::create`], in the first of `places` that works and is short enough.
    ///
    /// # Errors
    /// Those of the file system, of the last place; `InvalidInput` if all are too long.
    pub fn create_in(places: &[PathBuf], kind: &str) -> io::Result<Self> {
        let prefix = prefix(kind);
        let limit = SOCKET_PATH_LIMIT - SOCKET_NAME_LIMIT - (1 + prefix.len() + NEW.len() + LETTERS);
        let mut failure = None;
        for place in places.iter().filter(|place| is_at_most(place, limit)) {
            sweep(place, &prefix);
            match Self::create_at(place, &prefix) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    let message = format!("make a private folder in {}: {error}", place.display());
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
        let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
        let new = format!("{prefix}{NEW}");
        let made = tempfile::Builder::new().prefix(&new).rand_bytes(LETTERS).make_in(&place, make)?;
        // From here to the end, `made` removes nothing by itself: it holds the path only.
        let new = made.into_temp_path().keep()?;
        let locked = lock_and_name(&new);
        if locked.is_err() {
            fs::remove_dir_all(&new).ok();
        }
        let (path, lock) = locked?;
        Ok(Self { path, _lock: lock })
    }

    /// Removes what owners of that kind that were killed left, where [`RuntimeDir::create`] makes folders.
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

    /// Removes the folder with all that is in it, as dropping does, and says if that fails.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn close(self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io::Error::new(error.kind(), format!("remove {}: {error}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next sweep.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Start of the names of the folders of a kind.
fn prefix(kind: &str) -> String {
    format!("jmp-{kind}-")
}

/// Where a folder may be, best first.
fn places() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    std::iter::once(std::env::temp_dir()).chain(runtime).chain([PathBuf::from("/tmp")]).collect()
}

fn is_at_most(place: &Path, limit: usize) -> bool {
    std::path::absolute(place).is_ok_and(|path| path.as_os_str().as_bytes().len() <= limit)
}

/// Locks a new folder and gives it its final name, under which it is swept once the lock is gone.
fn lock_and_name(new: &Path) -> io::Result<(PathBuf, File)> {
    let lock = File::options().write(true).create_new(true).mode(0o600).open(new.join("lock"))?;
    lock.lock()?;
    let name = new.file_name().unwrap_or_default().to_string_lossy().replacen(NEW, "", 1);
    let path = new.with_file_name(name);
    fs::rename(new, &path)?;
    Ok((path, lock))
}

/// Removes the folders in `place` that are ours and that nobody holds. What fails is left for the next time.
fn sweep(place: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let abandoned = || match rest.starts_with(NEW) {
            true => is_old(&metadata),
            false => is_released(&path),
        };
        if metadata.is_dir() && metadata.uid() == us && abandoned() {
            tracing::debug!(folder = %path.display(), "removing what a process that was killed left");
            fs::remove_dir_all(&path).ok();
        }
    }
}

fn is_old(new: &fs::Metadata) -> bool {
    let age = new.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > MAKING_TAKES)
}

fn is_released(folder: &Path) -> bool {
    match File::options().write(true).open(folder.join("lock")) {
        // Held by nobody; released again right here, when the file is closed.
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        // Half removed.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn names(place: &Path) -> Vec<String> {
        fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn private_and_gone_at_the_end() {
        let place = tempfile::tempdir().unwrap();
        let folder = RuntimeDir::create_in(&[place.path().to_owned()], "qemu").unwrap();
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let path = folder.path().to_owned();
        let socket = UnixListener::bind(folder.file("a-socket-of-some-name")).unwrap();
        drop(folder);
        assert!(!path.exists());
        drop(socket);
        let folder = RuntimeDir::create_in(&[place.path().to_owned()], "qemu").unwrap();
        folder.close().unwrap();
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn a_long_place_is_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let long = place.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        let folder = RuntimeDir::create_in(&[long.clone(), place.path().to_owned()], "qemu").unwrap();
        assert_eq!(folder.path().parent(), Some(place.path()));
        UnixListener::bind(folder.file("12345678901234567890123")).unwrap();
        let error = RuntimeDir::create_in(&[long], "qemu").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("TMPDIR"));
        let error = RuntimeDir::create_in(&["/proc/nowhere".into()], "qemu").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_abandoned_is_swept_and_the_rest_is_not() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let alive = RuntimeDir::create_in(&[place.path().to_owned()], "qemu").unwrap();
        // As a process that was killed leaves it: its lock is released by the system.
        fs::create_dir(at("jmp-qemu-killed")).unwrap();
        fs::write(at("jmp-qemu-killed/lock"), "").unwrap();
        fs::write(at("jmp-qemu-killed/console.sock"), "").unwrap();
        fs::create_dir(at("jmp-qemu-half")).unwrap();
        fs::create_dir(at("jmp-qemu-new-making")).unwrap();
        fs::create_dir(at("another")).unwrap();
        fs::create_dir(at("jmp-exporter-killed")).unwrap();
        std::os::unix::fs::symlink(at("another"), at("jmp-qemu-link")).unwrap();
        let _second = RuntimeDir::create_in(&[place.path().to_owned()], "qemu").unwrap();
        assert!(alive.path().exists() && at("another").exists());
        assert!(at("jmp-qemu-new-making").exists() && at("jmp-qemu-link").exists());
        assert!(at("jmp-exporter-killed").exists(), "of another kind");
        assert!(!at("jmp-qemu-killed").exists() && !at("jmp-qemu-half").exists());
    }
}
