//! qemu-img: its description of images, and the meaning of its failures.

use std::os::fd::AsRawFd;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::NewFile;
use jumpstarter_supervise::{Command, Launcher, SuperviseError, run, run_blocking};

use super::{DiskFormat, QemuImage};

/// How long qemu-img may take to inspect, resize or create an image.
pub(super) const QUICK: Duration = Duration::from_secs(30);

/// qemu-img's description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ImageInfo {
    /// The format, as QEMU names it.
    pub format: String,
    /// Size of the disk that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Space that the file takes on the host, in bytes.
    #[serde(default)]
    pub actual_size: u64,
    /// Size of a cluster, in bytes, if the format has clusters.
    pub cluster_size: Option<u64>,
    /// The file below it, as the image names it.
    pub backing_filename: Option<String>,
    /// The file below it, as a path.
    pub full_backing_filename: Option<String>,
    /// The format of the file below it.
    pub backing_filename_format: Option<String>,
    /// Whether it was not closed properly.
    #[serde(default)]
    pub dirty_flag: bool,
    /// Whether its contents are encrypted.
    #[serde(default)]
    pub encrypted: bool,
}

/// A part of a disk, as `qemu-img map` reports it.
#[derive(Debug, Deserialize)]
struct Extent {
    start: u64,
    length: u64,
    /// The number of its file in the chain: 0 is the topmost.
    depth: u32,
    data: bool,
    /// Whether any file of the chain has it; reported since QEMU 6.1.
    present: Option<bool>,
}

impl QemuImage {
    /// Makes QEMU open an image of that format: an image that it cannot open is refused on arrival,
    /// and not at the next power-on. A launcher's qemu-img opens it by its path, and one here as it
    /// is. Returns the disk's size; `None` if qemu-img is not installed. Blocks.
    ///
    /// # Errors
    /// `FailedPrecondition` with qemu-img's message; `DeadlineExceeded`.
    pub(crate) fn try_open(
        new: NewFile<'_>,
        format: DiskFormat,
        launcher: Option<&Launcher>,
    ) -> Result<Option<u64>> {
        let doing = format!("open the {format} image");
        // `-U`: the writer of the file holds a lock of another kind, which some file systems do not
        // distinguish from QEMU's.
        let command = qemu_img("info", launcher).args(["--output=json", "-U", "-f", format.name()]);
        let command = if launcher.is_some() {
            command.arg(new.path)
        } else {
            let copy = new.file.try_clone().context(&*doing)?;
            command.arg(format!("/dev/fd/{}", copy.as_raw_fd())).keep_fd(copy.into())
        };
        let output = match run_blocking(command, QUICK) {
            Err(SuperviseError::NotFound { .. }) => return Ok(None),
            Err(SuperviseError::Failed { stderr, .. }) => {
                let message = format!("QEMU does not open the {format} image: {}", stderr.trim());
                return Err(Error::failed_precondition(message)
                    .with_hint("compare its size and digest with its publisher's; it may be damaged, or need a newer QEMU"));
            }
            other => finish(other, &doing)?,
        };
        let info: ImageInfo = serde_json::from_slice(&output.stdout)
            .map_err(|error| {
                Error::internal("qemu-img's answer is not as expected").with_source(error)
            })
            .context(doing)?;
        match info.backing_filename {
            // QEMU sees it, and this program does not.
            Some(_) => Err(Error::failed_precondition(format!(
                "the {format} image refers to a backing file"
            ))),
            None => Ok(Some(info.virtual_size)),
        }
    }

    /// qemu-img where the image's tools are.
    pub(super) fn qemu_img(&self, subcommand: &str) -> Command {
        qemu_img(subcommand, self.launcher.as_ref())
    }

    /// The end of the last write to this file itself, in bytes of the disk.
    pub(super) async fn written_up_to(&self, doing: &str) -> Result<u64> {
        let command = self
            .qemu_img("map")
            .args(["--output=json", "-f", self.format.name()])
            .arg(self.absolute(doing)?);
        let output = finish(run(command, QUICK).await, doing)?;
        let extents: Vec<Extent> = serde_json::from_slice(&output.stdout).map_err(|error| {
            Error::internal("qemu-img's answer is not as expected").with_source(error)
        })?;
        let written = extents
            .iter()
            .filter(|extent| extent.depth == 0 && extent.present.unwrap_or(extent.data));
        Ok(written.map(|extent| extent.start + extent.length).max().unwrap_or(0))
    }
}

/// qemu-img here, or beside a launcher.
pub(super) fn qemu_img(subcommand: &str, launcher: Option<&Launcher>) -> Command {
    let hint =
        "install it: `apt-get install qemu-utils`, `dnf install qemu-img`, `brew install qemu`";
    // Messages are matched below, so they must not be translated.
    let command = Command::new("qemu-img").arg(subcommand).env("LC_ALL", "C").install_hint(hint);
    launcher.cloned().into_iter().fold(command, Command::through)
}

/// Turns a failure of qemu-img into an error that quotes it, and an image in use into its own kind.
pub(super) fn finish<T>(result: Result<T, SuperviseError>, doing: &str) -> Result<T> {
    result.map_err(|error| {
        let hint = error.hint();
        let lock = |text: &str| text.contains("Failed to get") && text.contains("lock");
        let mapped = match &error {
            SuperviseError::Failed { stderr, .. } if lock(stderr) => {
                Error::failed_precondition(format!("{doing}: it is in use: {}", stderr.trim()))
                    .with_hint("power the machine that uses it off first")
            }
            SuperviseError::Failed { stderr, .. } => {
                let kind = if stderr.contains("No space left") {
                    ErrorKind::ResourceExhausted
                } else {
                    ErrorKind::Internal
                };
                Error::new(kind, format!("{doing}: {}", stderr.trim()))
            }
            SuperviseError::Deadline { .. } => Error::deadline_exceeded(doing).with_source(error),
            SuperviseError::NotFound { .. } => Error::failed_precondition(doing).with_source(error),
            _ => Error::internal(doing).with_source(error),
        };
        match hint {
            Some(hint) => mapped.with_hint(hint),
            None => mapped,
        }
    })
}
