//! A file that has no name until it is complete, so that nothing of it is left if its process is
//! killed.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::context::Context;

/// A file in the making, in a folder but without a name there; its owner's alone (0600).
///
/// Dropping it frees it. Every method blocks.
#[derive(Debug)]
pub struct UnnamedFile(File);

impl UnnamedFile {
    /// Makes an empty one on the file system of `folder`.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the file system has no such files;
    /// otherwise the errors of creating a file.
    pub fn create(folder: &Path) -> io::Result<Self> {
        create(folder)
            .doing(|| format!("making a file without a name in {}", folder.display()))
            .map(Self)
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// Gives it its name: from here on it is there, as it was written.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for a name that is taken; that file stays
    /// unchanged. Otherwise the errors of the file system.
    pub fn link(self, path: &Path) -> io::Result<()> {
        link(&self.0, path).doing(|| format!("making {}", path.display()))
    }
}

#[cfg(target_os = "linux")]
fn create(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(folder)
}

#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let named = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, named, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn create(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn it_is_there_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let make = |text: &str| {
            let file = UnnamedFile::create(folder.path()).unwrap();
            file.file().write_all(text.as_bytes()).unwrap();
            file
        };
        drop(make("never"));
        let first = make("first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        first.link(&path).unwrap();
        let taken = make("second").link(&path).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
