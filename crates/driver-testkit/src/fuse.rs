//! A folder behind a FUSE program: a file system without modes, or one that stops responding, like
//! that of a dead NFS server.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::blocking_eventually;

/// How long bindfs may take to mount.
const LIMIT: Duration = Duration::from_secs(20);

/// A folder that bindfs mounts at another place. Dropping it unmounts it.
#[derive(Debug)]
pub struct FuseMount {
    program: Child,
    at: PathBuf,
}

impl FuseMount {
    /// Why nothing can be mounted here, if that is known without trying.
    pub fn obstacle() -> Option<String> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&folders).any(|folder| folder.join("bindfs").is_file()) {
            return Some("bindfs is not installed".to_owned());
        }
        if !Path::new("/dev/fuse").exists() {
            return Some("there is no /dev/fuse".to_owned());
        }
        (!rustix::process::geteuid().is_root())
            .then(|| "only root may unmount it by force".to_owned())
    }

    /// Mounts the folder `behind` at the folder `at`, with these options of bindfs; blocks until it
    /// is mounted.
    ///
    /// # Errors
    /// The reason why it cannot be mounted, to [`skip`](crate::skip()) a test.
    #[expect(clippy::disallowed_methods, reason = "it is stopped and continued by hand")]
    pub fn new(behind: &Path, at: &Path, options: &[&str]) -> Result<Self, String> {
        if let Some(obstacle) = Self::obstacle() {
            return Err(obstacle);
        }
        let mut command = Command::new("bindfs");
        // In the foreground, so that it is our child.
        command.arg("-f").args(options).arg(behind).arg(at);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        // Before bindfs starts: it may mount at once.
        let before = device(at);
        let program = command.spawn().map_err(|error| format!("starting bindfs: {error}"))?;
        let (mut mount, mut ended) = (Self { program, at: at.to_owned() }, false);
        let is_mounted = || device(at) != before;
        let waited = blocking_eventually(LIMIT, || {
            ended = !matches!(mount.program.try_wait(), Ok(None));
            ended || is_mounted()
        });
        if waited && !ended {
            return Ok(mount);
        }
        if !ended {
            return Err(format!("bindfs mounted nothing within {LIMIT:?}"));
        }
        let mut words = String::new();
        if let Some(stderr) = &mut mount.program.stderr {
            stderr.read_to_string(&mut words).ok();
        }
        Err(format!("nothing can be mounted here: {}", words.trim()))
    }

    /// The process of bindfs.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Blocks every access.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the file system respond again.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).ok();
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        self.thaw();
        unmount(&self.at, UnmountFlags::DETACH).ok();
        self.program.kill().ok();
        self.program.wait().ok();
    }
}
