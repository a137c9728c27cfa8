//! Disk images: created, inspected, grown, converted, overlaid; natively where it is quick, else by
//! qemu-img.
//!
//! # When a format is guessed
//!
//! A guest that may write to a *raw* disk can write the header of another format to its start,
//! which names a file of the host as its backing file. A program that then guesses the format shows
//! the guest that file. So:
//!
//! - Only [`Header`] guesses. It reads the file's first bytes itself, and by default refuses an
//!   image that refers to other files.
//! - Everything else, qemu-img and QEMU included, gets the format; an overlay names its backing
//!   file's format.
//! - So guess once, when an image arrives, and keep the [`QemuImage`].

mod chain;
mod header;
mod overlay;
mod qemu_img;

use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::StagedFile;
use jumpstarter_supervise::{Launcher, SuperviseError, run};

#[cfg(test)]
pub(crate) use chain::Layer;
pub(crate) use chain::{Access, Disk};
pub use header::{BackingName, Header};
pub(crate) use overlay::{Backing, write_qcow2};
pub use qemu_img::ImageInfo;
use qemu_img::{QUICK, finish, qemu_img};

use crate::off_runtime::off_runtime;

/// A format of disk images that QEMU reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DiskFormat {
    /// The disk's plain bytes.
    Raw,
    /// QEMU's own; grows as it is written.
    Qcow2,
    /// The predecessor of qcow2.
    Qcow,
    /// VMware's.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Hyper-V's.
    Vhdx,
    /// Virtual PC's, `.vhd`.
    Vpc,
}

impl DiskFormat {
    /// Every format.
    pub const ALL: [Self; 7] =
        [Self::Raw, Self::Qcow2, Self::Qcow, Self::Vmdk, Self::Vdi, Self::Vhdx, Self::Vpc];

    /// The name that QEMU uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qcow => "qcow",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhdx => "vhdx",
            Self::Vpc => "vpc",
        }
    }

    /// The format of that name of QEMU's.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether images of this format can refer to other files, as QEMU reads them.
    const fn refers(self) -> bool {
        matches!(self, Self::Qcow2 | Self::Qcow | Self::Vmdk)
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an image may refer to other files of the host (backing files, extents, data files).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum References {
    /// Refused: for images that came from elsewhere.
    Refuse,
    /// Allowed: for images that the owner of the host named in the configuration.
    Allow,
}

/// A disk image: a file, or a block device, whose format is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuImage {
    path: PathBuf,
    format: DiskFormat,
    block_device: bool,
    /// Where qemu-img runs; beside this program without one.
    launcher: Option<Launcher>,
}

impl QemuImage {
    /// An image in a file of a known format. Touches no file.
    pub fn with_format(path: impl Into<PathBuf>, format: DiskFormat) -> Self {
        Self { path: path.into(), format, block_device: false, launcher: None }
    }

    /// The same on a block device of the host, for which QEMU has another driver than for files.
    #[must_use]
    pub fn on_block_device(mut self) -> Self {
        self.block_device = true;
        self
    }

    /// The same, with the qemu-img of a launcher, which sees the image at the same path.
    #[must_use]
    pub(crate) fn through(mut self, launcher: Option<&Launcher>) -> Self {
        self.launcher = launcher.cloned();
        self
    }

    /// The same, after checking whether it is one.
    pub(crate) fn look_for_block_device(mut self) -> Self {
        self.block_device =
            self.path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
        self
    }

    /// Opens an image, and guesses its format from its first bytes; runs no program. Blocks for two
    /// reads.
    ///
    /// A file of no known format is raw. [`Header`] decides what is accepted.
    ///
    /// # Errors
    /// `NotFound` and other errors of the file system; `FailedPrecondition` if it refers to other
    /// files and that is refused, and for images that no machine can use; `DataLoss` for damaged
    /// ones.
    pub fn open(path: impl Into<PathBuf>, references: References) -> Result<Self> {
        let path = path.into();
        let format = Header::read(&path)?
            .admit(references)
            .with_context(|| format!("open the disk image {}", path.display()))?;
        Ok(Self::with_format(path, format).look_for_block_device())
    }

    /// Creates an empty image of `size` bytes (rounded up to 512). Raw and qcow2 need no program.
    ///
    /// Cancelling leaves no file.
    ///
    /// # Errors
    /// `AlreadyExists`, other errors of the file system, and qemu-img's errors.
    pub async fn create(path: impl Into<PathBuf>, format: DiskFormat, size: u64) -> Result<Self> {
        let path = path.into();
        let doing = format!("create the {format} image {}", path.display());
        let image = Self::with_format(&path, format);
        off_runtime(async move {
            match format {
                DiskFormat::Raw => overlay::write_raw(&path, size).context(doing)?,
                DiskFormat::Qcow2 => write_qcow2(&path, size, None).context(doing)?,
                _ => {
                    let staged = StagedFile::create(&path).context(&*doing)?;
                    let size = size.div_ceil(512).saturating_mul(512).to_string();
                    let command = qemu_img("create", None)
                        .args(["-q", "-f", format.name()])
                        .arg(staged.temporary())
                        .arg(size);
                    finish(run(command, QUICK).await, &doing)?;
                    staged.commit_new().context(doing)?;
                }
            }
            Ok(())
        })
        .await?;
        Ok(image)
    }

    /// The path of the file or block device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format, as it was given or detected once.
    pub fn format(&self) -> DiskFormat {
        self.format
    }

    /// Whether it is a block device of the host, or a link to one; detected by [`QemuImage::open`].
    pub fn is_block_device(&self) -> bool {
        self.block_device
    }

    /// Size of the disk that the guest sees, in bytes: from the header for raw and qcow2, else from
    /// qemu-img.
    ///
    /// # Errors
    /// The errors of [`QemuImage::info`].
    pub async fn virtual_size(&self) -> Result<u64> {
        if self.format == DiskFormat::Raw {
            return Header::raw_size(&self.path);
        }
        let header = Header::read(&self.path)?;
        match header.virtual_size {
            Some(size) if header.format == self.format => Ok(size),
            _ => Ok(self.info().await?.virtual_size),
        }
    }

    /// Returns qemu-img's description.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` while a machine uses it; `Internal` with qemu-img's
    /// message.
    pub async fn info(&self) -> Result<ImageInfo> {
        let doing = format!("inspect the {} image {}", self.format, self.path.display());
        let command = self
            .qemu_img("info")
            .args(["--output=json", "-f", self.format.name()])
            .arg(self.absolute(&doing)?);
        let output = finish(run(command, QUICK).await, &doing)?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| {
                Error::internal("qemu-img's answer is not as expected").with_source(error)
            })
            .context(doing)
    }

    /// Checks it for damage.
    ///
    /// # Errors
    /// `DataLoss` if it is damaged; `Unimplemented` for formats that cannot be checked (raw); the
    /// errors of [`QemuImage::info`].
    pub async fn check(&self, deadline: Duration) -> Result<()> {
        let doing = format!("check the {} image {}", self.format, self.path.display());
        if self.format == DiskFormat::Raw {
            return Err(Error::unimplemented(format!("{doing}: a raw image has nothing to check")));
        }
        let command = self
            .qemu_img("check")
            .args(["-q", "-f", self.format.name()])
            .arg(self.absolute(&doing)?);
        match run(command, deadline).await {
            Err(SuperviseError::Failed { status, stderr, .. })
                if matches!(status.code(), Some(2 | 3)) =>
            {
                Err(Error::data_loss(format!("{doing}: {}", stderr.trim())))
            }
            other => finish(other, &doing).map(drop),
        }
    }

    /// Changes its size, in bytes. Growing adds zeros at the end.
    ///
    /// # Errors
    /// `FailedPrecondition` while a machine uses it, and for formats that cannot be resized
    /// (qemu-img resizes raw and qcow2); `InvalidArgument` if it would shrink and `shrink` refuses,
    /// or if the format cannot shrink without damage (all but raw).
    pub async fn resize(&self, size: u64, shrink: Shrink) -> Result<()> {
        let doing = format!("resize the {} image {}", self.format, self.path.display());
        let size = size.div_ceil(512).saturating_mul(512);
        let now = self.info().await.context(&*doing)?.virtual_size;
        let mut command = self.qemu_img("resize").args(["-q", "-f", self.format.name()]);
        if size < now {
            let (from, to) = (ByteSize::bytes(now), ByteSize::bytes(size));
            let error = Error::invalid_argument(format!("{doing}: {to} is less than its {from}"));
            match (shrink, self.format) {
                (Shrink::Refuse, _) => {
                    return Err(error.with_hint(
                        "name a size that is not smaller: the disk's end would be lost",
                    ));
                }
                (Shrink::CutOff, DiskFormat::Raw) => command = command.arg("--shrink"),
                (Shrink::IfUnwritten, DiskFormat::Qcow2)
                    if self.written_up_to(&doing).await? <= size =>
                {
                    // qemu-img visits all of the removed part, which takes minutes for some
                    // terabytes.
                    return overlay::set_size(&self.path, size).context(doing);
                }
                (Shrink::IfUnwritten, _) => {
                    return Err(
                        error.with_hint("name a size that is not smaller: the disk's end has data")
                    );
                }
                (Shrink::CutOff, _) => {
                    return Err(error.with_hint("convert it to raw: only raw images can shrink"));
                }
            }
        }
        let command = command.arg(self.absolute(&doing)?).arg(size.to_string());
        match run(command, QUICK).await {
            Err(SuperviseError::Failed { stderr, .. })
                if stderr.contains("does not support resize") =>
            {
                let message = format!("{doing}: images of this format cannot be resized");
                Err(Error::failed_precondition(message)
                    .with_hint("put an overlay over it, or convert it to raw or qcow2"))
            }
            other => finish(other, &doing).map(drop),
        }
    }

    /// Writes its contents, those of the files below it included, to a new image at `to`, which
    /// appears when it is complete, and replaces an existing file. Cancelling leaves nothing at
    /// `to`.
    ///
    /// # Errors
    /// `FailedPrecondition` while a machine uses it; `InvalidArgument` for compression in a format
    /// without it (all but qcow2); `DeadlineExceeded`; the errors of the file system and of
    /// qemu-img.
    pub async fn save(&self, to: &Path, save: Save, deadline: Duration) -> Result<Self> {
        let (this, to) = (self.clone(), to.to_owned());
        off_runtime(async move { this.save_blocking(&to, save, deadline).await }).await
    }

    /// As [`QemuImage::save`], on a thread that may block.
    async fn save_blocking(&self, to: &Path, save: Save, deadline: Duration) -> Result<Self> {
        let doing = format!("save {} as {} to {}", self.path.display(), save.format, to.display());
        // The files below it have known formats, too: QEMU reads what a machine would see.
        let source = chain::options(self).context(&*doing)?;
        let mut command = self.qemu_img("convert").args(["-q", "-O", save.format.name()]);
        if save.compressed {
            if save.format != DiskFormat::Qcow2 {
                return Err(Error::invalid_argument(format!(
                    "{doing}: only qcow2 can be compressed"
                )));
            }
            command = command.arg("-c");
        }
        let staged = StagedFile::create(to).context(&*doing)?;
        let command = match source {
            Some(options) => command.arg("--image-opts").arg(options),
            None => command.args(["-f", self.format.name()]).arg(self.absolute(&doing)?),
        };
        let command = command.arg(staged.temporary());
        finish(run(command, deadline).await, &doing)?;
        staged.commit().context(doing)?;
        Ok(Self::with_format(to, save.format).through(self.launcher.as_ref()))
    }

    /// Creates a qcow2 image at `at`, which must not exist, that shows this one until it is written
    /// to. Runs no program (for raw and qcow2), and takes well under a millisecond. It is at
    /// least `size` bytes large.
    ///
    /// # Errors
    /// `AlreadyExists`, other errors of the file system; `InvalidArgument` for a path of over 1023
    /// bytes.
    pub async fn overlay(&self, at: impl Into<PathBuf>, size: Option<u64>) -> Result<Self> {
        let at = at.into();
        let doing = format!("create an overlay of {} at {}", self.path.display(), at.display());
        let size = self.virtual_size().await.context(&*doing)?.max(size.unwrap_or(0));
        let backing = Backing { path: self.absolute(&doing)?, format: self.format };
        write_qcow2(&at, size, Some(&backing)).context(doing)?;
        Ok(Self::with_format(at, DiskFormat::Qcow2).through(self.launcher.as_ref()))
    }

    /// As a path that starts with `/`, so that it is never parsed as a protocol (`nbd:`) or an
    /// option.
    fn absolute(&self, doing: &str) -> Result<PathBuf> {
        let path = std::path::absolute(&self.path).context(doing)?;
        path.metadata().context(doing)?;
        Ok(path)
    }
}

/// What happens to the end of an image that shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shrink {
    /// An error.
    Refuse,
    /// The end is removed if nothing was written to it, else an error. qcow2 images only.
    IfUnwritten,
    /// The end is cut off, and lost. Raw images only.
    CutOff,
}

/// How to save an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Save {
    /// The new image's format.
    pub format: DiskFormat,
    /// Whether to compress it; qcow2 only.
    pub compressed: bool,
}

impl Save {
    /// In that format, not compressed.
    pub fn new(format: DiskFormat) -> Self {
        Self { format, compressed: false }
    }

    /// The same, compressed; qcow2 only.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }
}

#[cfg(test)]
mod tests;
