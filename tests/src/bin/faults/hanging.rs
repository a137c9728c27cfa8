//! A file system that can stop answering: bindfs, frozen by SIGSTOP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::await_condition;

/// Why there can be none here.
pub(crate) fn obstacle() -> Option<String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&folders).any(|folder| folder.join("bindfs").is_file()) {
        return Some("bindfs is not installed".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse".to_owned());
    }
    (!rustix::process::geteuid().is_root()).then(|| "only root may unmount it by force".to_owned())
}

/// A mounted bindfs; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Hanging {
    daemon: Child,
    at: PathBuf,
}

impl Hanging {
    /// Shows the folder `of` at the folder `at`.
    #[expect(clippy::disallowed_methods, reason = "it is stopped and continued by hand")]
    pub(crate) fn mount(of: &Path, at: &Path) -> Result<Self> {
        let mut command = Command::new("bindfs");
        // In the foreground, so that it is our child.
        command.arg("-f").arg(of).arg(at).stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = command.spawn().context("starting bindfs")?;
        let mounted = Self { daemon, at: at.to_owned() };
        let device = |path: &Path| {
            fs::metadata(path).map(|data| std::os::unix::fs::MetadataExt::dev(&data)).ok()
        };
        let parent = device(of);
        match await_condition(Duration::from_secs(20), || device(&mounted.at) != parent) {
            true => Ok(mounted),
            false => Err(Error::unavailable("bindfs does not mount")),
        }
    }

    /// The daemon's process.
    pub(crate) fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// From here on, each access waits.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// The file system answers again.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.daemon), signal).ok();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.thaw();
        unmount(&self.at, UnmountFlags::DETACH).ok();
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}
