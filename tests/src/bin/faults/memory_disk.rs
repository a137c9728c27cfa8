//! A small disk in memory that can run full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Room for the images of a round, twice.
const SIZE: &str = "size=64m";

/// Why there can be none here.
pub(crate) fn obstacle() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "only root may mount a file system".to_owned())
}

/// A mounted file system in memory; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct MemoryDisk(PathBuf);

impl MemoryDisk {
    /// Mounts one at the folder `at`.
    pub(crate) fn mount(at: &Path) -> Result<Self> {
        let options =
            std::ffi::CString::new(SIZE).map_err(|_| Error::internal("options with a NUL"))?;
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str())
            .map_err(std::io::Error::from)
            .context("mounting a tmpfs")?;
        Ok(Self(at.to_owned()))
    }

    /// Writes until nothing more fits.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.filler()).context("filling the disk")?;
        let mut piece = vec![0xa5; 1 << 16];
        while !piece.is_empty() {
            match filler.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    piece.truncate(piece.len() / 2)
                }
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn relieve(&self) {
        fs::remove_file(self.filler()).ok();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        // Whatever still holds a file of it keeps it until it ends.
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            println!("unmounting {}: {error}", self.0.display());
        }
    }
}
