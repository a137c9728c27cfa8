//! A folder that no path leaves: neither by `..` nor by a symbolic link.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::context::Context;

mod file;
mod list;
mod path;

pub use file::ConfinedFile;
pub use list::{Entry, EntryKind};
pub use path::InnerPath;

use path::leads_out;

/// So often a look-up is repeated that a rename disturbed.
const MAX_TRIES: usize = 64;
/// The mode of a new folder, before the umask takes rights away.
const NEW_FOLDER: u32 = 0o777;

/// A folder that no path leaves. The kernel resolves each path below it (`openat2` with
/// `RESOLVE_BENEATH`), so that a symbolic link that points outside is refused, also one that is
/// made meanwhile; links that stay inside are followed.
///
/// Errors are [`PermissionDenied`](io::ErrorKind::PermissionDenied) for a path that leads out, else
/// those of the file system. Every method blocks: call them on a thread that may.
#[derive(Debug)]
pub struct ConfinedFolder {
    folder: OwnedFd,
    place: PathBuf,
}

impl ConfinedFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// The folder is missing or is none; `Unsupported` before Linux 5.6.
    pub fn open(place: impl Into<PathBuf>) -> io::Result<Self> {
        let place = place.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&place, flags, Mode::empty())
            .map_err(io::Error::from)
            .doing(|| format!("opening the folder {}", place.display()))?;
        Ok(Self { folder, place })
    }

    /// As [`open`](Self::open), after making the folder, and those above it, where they are
    /// missing.
    ///
    /// # Errors
    /// As [`open`](Self::open), and those of making a folder.
    pub fn create(place: impl Into<PathBuf>) -> io::Result<Self> {
        let place = place.into();
        std::fs::create_dir_all(&place)
            .doing(|| format!("making the folder {}", place.display()))?;
        Self::open(place)
    }

    /// Where the folder was when it was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Opens a file for reading. Does not wait for the other end of a pipe.
    ///
    /// # Errors
    /// [`IsADirectory`](io::ErrorKind::IsADirectory), and `InvalidInput` for what is no file.
    pub fn read(&self, path: &InnerPath) -> io::Result<File> {
        let metadata = self.metadata(path)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // Opening alone may do something to a device.
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::from(self.resolve(path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    /// What is at a path, with links followed.
    ///
    /// # Errors
    /// `NotFound`, also for a file where the path names a folder.
    pub fn metadata(&self, path: &InnerPath) -> io::Result<Metadata> {
        let found = File::from(self.resolve(path.as_str(), OFlags::PATH)?).metadata()?;
        match path.is_folder() && !found.is_dir() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "it is a file, and no folder")),
            false => Ok(found),
        }
    }

    /// Begins a file that takes its name, and the place of an old one, when it is complete. Missing
    /// folders above it are made.
    ///
    /// # Errors
    /// [`IsADirectory`](io::ErrorKind::IsADirectory), and those of making a file.
    pub fn write(&self, path: &InnerPath) -> io::Result<ConfinedFile> {
        if path.is_folder() || self.metadata(path).is_ok_and(|found| found.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (folder, name) = self.followed(path)?;
        ConfinedFile::stage(folder, &name)
    }

    /// Makes a folder and those above it. Returns whether it was missing.
    ///
    /// # Errors
    /// [`NotADirectory`](io::ErrorKind::NotADirectory) where a file has the name.
    pub fn create_dir(&self, path: &InnerPath) -> io::Result<bool> {
        self.make(path.as_str()).map(|(_, is_new)| is_new)
    }

    /// Copies a file; missing folders above the target are made.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`write`](Self::write); `InvalidInput` for a file onto itself.
    pub fn copy(&self, from: &InnerPath, to: &InnerPath) -> io::Result<()> {
        if from.as_str() == to.as_str() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "they are the same file"));
        }
        let mut source = self.read(from)?;
        let target = self.write(to)?;
        io::copy(&mut source, &mut target.file())?;
        target.commit()
    }

    /// Gives a file or folder another name; missing folders above it are made, a file in its place
    /// is replaced. A link itself is renamed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn rename(&self, from: &InnerPath, to: &InnerPath) -> io::Result<()> {
        let (Some((old_folder, old)), Some((new_folder, new))) = (from.split(), to.split()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root has no name"));
        };
        let old_folder = self.resolve(old_folder, OFlags::PATH | OFlags::DIRECTORY)?;
        // Before anything is made for it.
        rustix::fs::statat(&old_folder, old, AtFlags::SYMLINK_NOFOLLOW)?;
        let (new_folder, _) = self.make(new_folder)?;
        let flags = RenameFlags::empty();
        Ok(rustix::fs::renameat_with(&old_folder, old, &new_folder, new, flags)?)
    }

    /// Removes a file or an empty folder; nothing, if there is none. A link itself is removed.
    ///
    /// # Errors
    /// [`DirectoryNotEmpty`](io::ErrorKind::DirectoryNotEmpty), and those of the file system.
    pub fn delete(&self, path: &InnerPath) -> io::Result<()> {
        let Some((folder, name)) = path.split() else {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the root itself is not removed",
            ));
        };
        absent_is_fine(self.resolve(folder, OFlags::PATH | OFlags::DIRECTORY).and_then(|folder| {
            match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                // A folder: Linux says the first, POSIX the second.
                Err(Errno::ISDIR | Errno::PERM) => {
                    Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
                }
                removed => Ok(removed?),
            }
        }))
    }

    /// Removes a file, or a folder with everything in it; of the root, everything in it. Links are
    /// removed, not followed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_all(&self, path: &InnerPath) -> io::Result<()> {
        // The standard library removes a tree without following links, also those made meanwhile.
        let Some((folder, name)) = path.split() else {
            return empty(&descriptor_path(&self.resolve("", OFlags::RDONLY | OFlags::DIRECTORY)?));
        };
        absent_is_fine(
            self.resolve(folder, OFlags::PATH | OFlags::DIRECTORY)
                .and_then(|folder| remove(&descriptor_path(&folder).join(name))),
        )
    }

    /// Opens what is at a path below the folder.
    fn resolve(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        resolve(&self.folder, path, flags)
    }

    /// Opens a folder below this one, and makes it and those above it if they are missing. Says
    /// whether the last one was.
    fn make(&self, path: &str) -> io::Result<(OwnedFd, bool)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.resolve(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return Ok((found?, false)),
        }
        let mut is_new = false;
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends {
            let (above, name) = path[..end].rsplit_once('/').unwrap_or(("", &path[..end]));
            let above = self.resolve(above, flags)?;
            match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(NEW_FOLDER)) {
                Ok(()) => is_new = true,
                Err(Errno::EXIST) => is_new = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((self.resolve(path, flags)?, is_new))
    }

    /// The folder and the name where a file is written: a link in last place is followed, as long
    /// as it stays inside. The folder is made if it is missing.
    fn followed(&self, path: &InnerPath) -> io::Result<(OwnedFd, OsString)> {
        const MAX_LINKS: usize = 16;
        let mut path = path.clone();
        for _ in 0..MAX_LINKS {
            let Some((folder, name)) = path.split() else {
                return Err(io::ErrorKind::IsADirectory.into());
            };
            let (opened, _) = self.make(folder)?;
            let Ok(target) = rustix::fs::readlinkat(&opened, name, Vec::new()) else {
                return Ok((opened, name.into()));
            };
            let target = target.to_str().ok().filter(|target| !target.starts_with('/'));
            let target = target.ok_or_else(|| leads_out(path.as_str()))?;
            path = InnerPath::new(&format!("{folder}/{target}"))
                .map_err(|_| leads_out(path.as_str()))?;
        }
        Err(Errno::LOOP.into())
    }
}

fn resolve(folder: impl AsFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let (name, flags) = (if path.is_empty() { "." } else { path }, flags | OFlags::CLOEXEC);
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_TRIES {
        match rustix::fs::openat2(&folder, name, flags, Mode::empty(), how) {
            // A rename on the way: the kernel cannot say that the path stayed inside.
            Err(Errno::AGAIN) => {}
            Err(Errno::XDEV) => return Err(leads_out(path)),
            Err(Errno::NOSYS) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this needs Linux 5.6 or newer (openat2)",
                ));
            }
            found => return Ok(found?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// A path to an open folder, for calls that know no descriptors.
fn descriptor_path(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path)?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        absent_is_fine(remove(&entry?.path()))?;
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
