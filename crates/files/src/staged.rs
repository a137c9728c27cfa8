//! Replacing a file whole or not at all: a hidden sibling is written, then takes the file's name.

use crate::context::Context;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file in the making, beside the one that it replaces.
///
/// It is private (0600) and locked (`flock`) while it is written. [`commit`](Self::commit) gives it the mode of the
/// file it replaces (0644 for a new one), its owner where this process may, and its name; dropping it instead removes it. What a killed process left is
/// a sibling that nobody has locked: [`create`](Self::create) removes those.
///
/// Every method blocks: call them on a thread that may.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    temporary: PathBuf,
    destination: PathBuf,
    committed: bool,
}

const SUFFIX: &str = ".partial";
static NUMBER: AtomicU64 = AtomicU64::new(0);

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
        let prefix = format!(".{}.", name.to_string_lossy());
        let folder = folder_of(&destination);
        remove_leftovers(folder, &prefix);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let temporary = folder.join(format!("{prefix}{}-{number}{SUFFIX}", std::process::id()));
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
            let staged = Self { file, temporary, destination: destination.clone(), committed: false };
            match staged.file.try_lock() {
                // Somebody tidied up between our two calls: try again under another name.
                Ok(()) if staged.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) => {}
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks keeps leftovers, nothing worse.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(staged),
            }
        }
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
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
        self.sync()?;
        self.rename()?;
        self.sync_folder()
    }

    /// First part of [`commit`](Self::commit): the final mode, and everything on the disk. May take seconds.
    ///
    /// # Errors
    /// What the disk fails with.
    pub fn sync(&mut self) -> io::Result<()> {
        let old = std::fs::metadata(&self.destination).ok();
        if let (Some(old), Ok(new)) = (&old, self.file.metadata())
            && (old.uid(), old.gid()) != (new.uid(), new.gid())
        {
            // Before the mode, some of whose bits it clears. Only root may give files away.
            fchown(&self.file, Some(old.uid()), Some(old.gid())).ok();
        }
        let mode = old.map_or(0o644, |old| old.mode() & 0o7777);
        let done =
            self.file.set_permissions(Permissions::from_mode(mode)).and_then(|()| self.file.sync_all());
        done.doing(|| format!("writing {} to the disk", self.destination.display()))
    }

    /// Second part of [`commit`](Self::commit), and quick: the destination is the new file from here.
    ///
    /// # Errors
    /// What the disk fails with; the destination is then as it was.
    pub fn rename(&mut self) -> io::Result<()> {
        let done = std::fs::rename(&self.temporary, &self.destination);
        done.doing(|| format!("replacing {}", self.destination.display()))?;
        self.committed = true;
        Ok(())
    }

    /// Third part of [`commit`](Self::commit): makes the new name last a power cut.
    ///
    /// # Errors
    /// What the disk fails with.
    pub fn sync_folder(&self) -> io::Result<()> {
        let done = File::open(folder_of(&self.destination)).and_then(|folder| folder.sync_all());
        done.doing(|| format!("writing the folder of {} to the disk", self.destination.display()))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Removing a name is quick; the blocks are freed when the file is closed.
        if !self.committed
            && let Err(error) = std::fs::remove_file(&self.temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary file stays behind");
        }
    }
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

/// Whether `name` is `<prefix><digits>-<digits>.partial`.
fn is_temporary(name: &str, prefix: &str) -> bool {
    let middle = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    middle
        .and_then(|middle| middle.split_once('-'))
        .is_some_and(|(process, number)| digits(process) && digits(number))
}

fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| is_temporary(&entry.file_name().to_string_lossy(), prefix))
    {
        // Whoever still writes it holds the lock, which dies with its process.
        let unlocked =
            OpenOptions::new().write(true).open(entry.path()).ok().filter(|file| file.try_lock().is_ok());
        if unlocked.is_some() && std::fs::remove_file(entry.path()).is_ok() {
            tracing::info!(path = %entry.path().display(), "removed what a killed process left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_leftovers() {
        for (name, expected) in [
            (".os.img.12-0.partial", true),
            (".os.img.12-.partial", false),
            (".os.img.a-1.partial", false),
            (".os.img.partial", false),
            ("os.img.12-0.partial", false),
            (".os.img.1.12-0.partial", false),
        ] {
            assert_eq!(is_temporary(name, ".os.img."), expected, "{name}");
        }
    }
}
