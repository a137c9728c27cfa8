//! What an image's first bytes say: its format, its size, and whether it refers to other files.
//!
//! The magic numbers and offsets are those of QEMU's `docs/interop/qcow2.txt` and of its drivers in `block/`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jumpstarter_driver_core::prelude::*;

use super::DiskFormat;

/// How much of a file is looked at: the header of each format, and the descriptor of a VMDK.
const LOOKED_AT: u64 = 64 * 1024;

/// What an image's first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The format; raw when it is none of the others.
    pub format: DiskFormat,
    /// Size of the disk that the guest sees, in bytes, where the header says it.
    pub virtual_size: Option<u64>,
    /// What else of the host it refers to, in words.
    pub reference: Option<String>,
}

impl Header {
    /// Reads a file's first bytes.
    ///
    /// # Errors
    /// Those of the file system; InvalidArgument for what is no file; DataLoss for a header that is cut off.
    pub fn read(path: &Path) -> Result<Self> {
        let doing = || format!("open the disk image {}", path.display());
        let mut file = open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(LOOKED_AT).read_to_end(&mut start).with_context(doing)?;
        let length = file.seek(SeekFrom::End(0)).with_context(doing)?;
        let mut header = Self::of(&start).with_context(doing)?;
        if header.format == DiskFormat::Raw {
            let mut end = [0; 512];
            if length >= 512 && file.seek(SeekFrom::End(-512)).and_then(|_| file.read_exact(&mut end)).is_ok()
            {
                header = Self::of_end(&end);
            }
        }
        if header.format == DiskFormat::Raw {
            header.virtual_size = Some(length);
        }
        Ok(header)
    }

    /// The size of a raw image, in bytes: of a file, or of a block device.
    ///
    /// # Errors
    /// Those of [`Header::read`].
    pub fn raw_size(path: &Path) -> Result<u64> {
        open(path)?.seek(SeekFrom::End(0)).context(format!("open the disk image {}", path.display()))
    }

    /// What a file that starts with `start` is, as far as that says it.
    fn of(start: &[u8]) -> Result<Self> {
        let plain = |format| Self { format, virtual_size: None, reference: None };
        Ok(match start {
            [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 1, ..] => {
                let backing = number(start, 8, 8)? != 0;
                Self {
                    virtual_size: Some(number(start, 24, 8)?),
                    reference: backing.then(|| "a backing file".to_owned()),
                    format: DiskFormat::Qcow,
                }
            }
            [b'Q', b'F', b'I', 0xfb, ..] => Self::of_qcow2(start)?,
            [b'K', b'D', b'M', b'V', ..] | [b'C', b'O', b'W', b'D', ..] => {
                // A sparse extent's embedded descriptor may name further extents, or a parent.
                Self { reference: vmdk_reference(start), ..plain(DiskFormat::Vmdk) }
            }
            _ if is_vmdk_descriptor(start) => {
                Self { reference: Some("the files of its extents".to_owned()), ..plain(DiskFormat::Vmdk) }
            }
            _ if start.starts_with(b"vhdxfile") => plain(DiskFormat::Vhdx),
            _ if start.starts_with(b"conectix") => plain(DiskFormat::Vpc),
            _ if start.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe]) => plain(DiskFormat::Vdi),
            _ => plain(DiskFormat::Raw),
        })
    }

    /// A fixed VHD is raw but for its last 512 bytes.
    fn of_end(end: &[u8; 512]) -> Self {
        let format = if end.starts_with(b"conectix") { DiskFormat::Vpc } else { DiskFormat::Raw };
        Self { format, virtual_size: None, reference: None }
    }

    fn of_qcow2(start: &[u8]) -> Result<Self> {
        let version = number(start, 4, 4)?;
        let features = if version >= 3 { number(start, 72, 8)? } else { 0 };
        let (offset, length) = (number(start, 8, 8)?, number(start, 16, 4)?);
        let reference = if offset != 0 {
            let name = usize::try_from(offset)
                .ok()
                .and_then(|from| Some(from..from.checked_add(usize::try_from(length).ok()?)?))
                .and_then(|range| start.get(range))
                .map_or_else(|| "?".to_owned(), |name| String::from_utf8_lossy(name).into_owned());
            Some(format!("the backing file `{}`", name.escape_debug()))
        } else if features & 4 != 0 {
            Some("an external data file".to_owned())
        } else {
            None
        };
        Ok(Self { format: DiskFormat::Qcow2, virtual_size: Some(number(start, 24, 8)?), reference })
    }
}

fn open(path: &Path) -> Result<File> {
    let doing = || format!("open the disk image {}", path.display());
    // A pipe would block.
    let kind = path.metadata().with_context(doing)?.file_type();
    let is_disk = kind.is_file() || std::os::unix::fs::FileTypeExt::is_block_device(&kind);
    if !is_disk {
        return Err(Error::invalid_argument(format!("{}: neither a file nor a block device", doing())));
    }
    File::open(path).with_context(doing)
}

/// A big-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let field = bytes.get(at..at + length).ok_or_else(|| Error::data_loss("its header is cut off"))?;
    Ok(field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// As QEMU's `vmdk_probe`: after comments and empty lines comes `version=`.
fn is_vmdk_descriptor(start: &[u8]) -> bool {
    let mut lines = start.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .is_some_and(|line| line.starts_with(b"version="))
}

/// What the embedded descriptor of a sparse VMDK refers to.
fn vmdk_reference(start: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(start);
    let extents = text.lines().filter(|line| line.starts_with("RW ") || line.starts_with("RDONLY ")).count();
    if extents > 1 {
        return Some("the files of its extents".to_owned());
    }
    let parent = text.lines().any(|line| line.starts_with("parentFileNameHint"));
    parent.then(|| "a parent image".to_owned())
}
