//! The meaning of an image's first bytes, and the only decision which images a machine may use.
//!
//! It is an allow-list: a raw disk, a qcow2 or qcow image, a VMDK in one sparse file, a VDI, a VHDX
//! or a VHD, each only as far as QEMU's treatment of it is known. Encrypted images, images with
//! features that QEMU does not know, and images whose contents are in unknown other files are
//! refused, with a command that remedies that. So is every other format that QEMU would recognise:
//! read as raw, it would not be a disk.
//!
//! It is handwritten because QEMU's readers are more lenient than is safe, and no library decides
//! what is; the tests let qemu-img judge the same images.
//!
//! The magic numbers and offsets are those of QEMU's `docs/interop` and of its drivers in `block/`.

mod foreign;
mod qcow;
mod vdi;
mod vhd;
mod vmdk;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;

use super::{DiskFormat, References};

/// The part of a file's start that is read: it has the header of each format, and the descriptor of
/// a VMDK.
const LOOKED_AT: usize = 64 * 1024;
/// The part of its end that is read.
const END: usize = 512;

/// The contents of an image's first and last bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The format; raw if it is none of the others.
    pub format: DiskFormat,
    /// Size of the disk that QEMU shows, in bytes, if the header has it.
    pub virtual_size: Option<u64>,
    /// Its reference to other parts of the host, in words.
    pub reference: Option<String>,
    /// The backing file, if it has one.
    pub backing: Option<BackingName>,
    /// For a VHD of fixed size: the length of the disk, which is the file's first bytes; a footer
    /// follows them.
    pub fixed_size: Option<u64>,
}

/// How an image names the file below it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackingName {
    /// A path, relative to the image's folder, or a protocol's address as QEMU parses it.
    pub name: PathBuf,
    /// Its format as QEMU names it, if the image has it.
    pub format: Option<String>,
}

impl Header {
    fn new(format: DiskFormat) -> Self {
        Self { format, virtual_size: None, reference: None, backing: None, fixed_size: None }
    }

    fn with_size(self, size: u64) -> Self {
        Self { virtual_size: Some(size), ..self }
    }

    fn with_reference(self, reference: impl Into<String>) -> Self {
        Self { reference: Some(reference.into()), ..self }
    }

    /// Reads a file's first and last bytes. Blocks.
    ///
    /// # Errors
    /// The errors of the file system; `InvalidArgument` for something that is not a file;
    /// `DataLoss` for a truncated header; `FailedPrecondition` for an image that no machine can
    /// use, with a hint.
    pub fn read(path: &Path) -> Result<Self> {
        let doing = || format!("open the disk image {}", path.display());
        Self::read_file(&open(path)?).with_context(doing)
    }

    /// Reads an open file in the same way; its cursor stays.
    ///
    /// # Errors
    /// The errors of [`Header::read`].
    pub fn read_file(file: &File) -> Result<Self> {
        let length = length(file)?;
        let start = read_at(file, 0, length.min(LOOKED_AT as u64) as usize)?;
        let end =
            read_at(file, length.saturating_sub(END as u64), length.min(END as u64) as usize)?;
        Self::from_bytes(&start, &end, length)
    }

    /// Reads a file of `length` bytes from its start (64 KiB of it, or all) and its end (512 bytes
    /// of it, or all).
    ///
    /// # Errors
    /// `DataLoss` and `FailedPrecondition`, as [`Header::read`].
    pub fn from_bytes(start: &[u8], end: &[u8], length: u64) -> Result<Self> {
        if let Some(found) = qcow::read(start)
            .or_else(|| vmdk::read(start))
            .or_else(|| vdi::read(start))
            .or_else(|| vhd::read(start, end, length))
            .or_else(|| foreign::read(start, end))
        {
            return found;
        }
        if start.starts_with(b"vhdxfile") {
            // QEMU itself refuses one that has a parent.
            return Ok(Self::new(DiskFormat::Vhdx));
        }
        Ok(Self::new(DiskFormat::Raw).with_size(length))
    }

    /// The format of an image that a machine may use unchanged.
    ///
    /// # Errors
    /// `FailedPrecondition` if it refers to other files and that is refused, or if QEMU would not
    /// show all of it.
    pub fn admit(&self, references: References) -> Result<DiskFormat> {
        match (&self.reference, references) {
            (Some(reference), References::Refuse) => {
                let message = format!("the {} image refers to {reference}", self.format);
                let hint = format!("an image must be whole: {}", convert(self.format.name()));
                Err(Error::failed_precondition(message).with_hint(hint))
            }
            _ if self.fixed_size.is_some_and(|size| self.virtual_size != Some(size)) => {
                Err(vhd::two_sizes())
            }
            _ => Ok(self.format),
        }
    }

    /// The size of a raw image, in bytes: of a file, or of a block device.
    ///
    /// # Errors
    /// The errors of [`Header::read`].
    pub(crate) fn raw_size(path: &Path) -> Result<u64> {
        length(&open(path)?).with_context(|| format!("open the disk image {}", path.display()))
    }
}

/// The error for an unusable image, with the command that makes a usable one of it.
fn unusable(format: &str, why: impl std::fmt::Display) -> Error {
    Error::failed_precondition(format!("the {format} image {why}"))
        .with_hint(format!("convert it: {}", convert(format)))
}

/// The command that copies the referenced files into an image of that format.
fn convert(format: &str) -> String {
    format!("`qemu-img convert -f {format} -O qcow2 IMAGE IMAGE.qcow2`")
}

fn open(path: &Path) -> Result<File> {
    let doing = || format!("open the disk image {}", path.display());
    // A pipe would block.
    let kind = path.metadata().with_context(doing)?.file_type();
    let is_disk = kind.is_file() || std::os::unix::fs::FileTypeExt::is_block_device(&kind);
    if !is_disk {
        return Err(Error::invalid_argument(format!(
            "{}: neither a file nor a block device",
            doing()
        )));
    }
    File::open(path).with_context(doing)
}

/// The length of a file or a block device.
fn length(file: &File) -> Result<u64> {
    let now = rustix::fs::tell(file).map_err(std::io::Error::from)?;
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).map_err(std::io::Error::from)?;
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(now)).map_err(std::io::Error::from)?;
    Ok(end)
}

fn read_at(file: &File, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Whether `bytes` has `wanted` at an offset.
fn has(bytes: &[u8], at: usize, wanted: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(wanted))
}

/// `N` bytes at an offset; an error if the header is truncated.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    field.copied().ok_or_else(|| Error::data_loss("its header is cut off"))
}

#[cfg(test)]
mod tests;
