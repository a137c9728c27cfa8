//! A disk for QEMU: each file of its chain, by a descriptor and with its format.
//!
//! QEMU then opens no file by a name in an image, and guesses no format. Two kinds are left to it,
//! by path, and only if the owner of the host named the image: images behind a protocol (`nbd://`),
//! and images in several files (a qcow2 image's external data file, a VMDK's extents).

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use jumpstarter_driver_core::prelude::*;

use super::{Header, QemuImage, References};

/// The most files of a chain.
const LONGEST: usize = 64;

/// A disk for QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The files of its chain, the one that the guest writes to first.
    pub(crate) layers: Vec<Layer>,
}

/// A file of a disk's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The file and its format.
    pub(crate) image: QemuImage,
    /// The number under which QEMU inherits the open file; `None` if it is opened by path.
    pub(crate) fd: Option<RawFd>,
}

impl From<QemuImage> for Disk {
    /// By path; QEMU follows the image's references.
    fn from(image: QemuImage) -> Self {
        Self { layers: vec![Layer { image, fd: None }] }
    }
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

impl Disk {
    /// Opens the files of a disk. The guest may write only to the first of `images`. The last one
    /// may have further ones below it. Blocks.
    ///
    /// # Errors
    /// The errors of the file system, and of [`Header::read`] for the images below.
    pub(crate) fn open(images: &[QemuImage], access: Access) -> Result<(Self, Vec<OwnedFd>)> {
        let (mut layers, mut files) = (Vec::new(), Vec::new());
        for (image, is_followed) in chain(images)? {
            let mut fd = None;
            if !is_followed {
                let file = open(&image, access == Access::Write && layers.is_empty())?;
                fd = Some(file.as_raw_fd());
                files.push(OwnedFd::from(file));
            }
            layers.push(Layer { image, fd });
        }
        Ok((Self { layers }, files))
    }
}

impl Disk {
    /// The same, for a QEMU that inherits nothing.
    #[must_use]
    pub(crate) fn by_path(mut self) -> Self {
        self.layers.iter_mut().for_each(|layer| layer.fd = None);
        self
    }
}

/// An image with those below it, for qemu-img's `--image-opts`; `None` for one without a file below
/// it, or whose references QEMU follows itself.
pub(super) fn options(image: &QemuImage) -> Result<Option<OsString>> {
    let chain = chain(std::slice::from_ref(image))?;
    if chain.len() < 2 {
        return Ok(None);
    }
    let (mut options, mut prefix) = (Vec::new(), String::new());
    for (image, _) in &chain {
        let file = if image.is_block_device() { "host_device" } else { "file" };
        let (format, comma) = (image.format(), if prefix.is_empty() { "" } else { "," });
        options.extend_from_slice(
            format!(
                "{comma}{prefix}driver={format},{prefix}file.driver={file},{prefix}file.filename="
            )
            .as_bytes(),
        );
        // A comma in a value is written twice.
        for byte in std::path::absolute(image.path())?.as_os_str().as_bytes() {
            options.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
        }
        prefix.push_str("backing.");
    }
    Ok(Some(OsString::from_vec(options)))
}

/// The files of a disk, and whether QEMU follows references of the last one. The last of `images`
/// may have further ones below it.
fn chain(images: &[QemuImage]) -> Result<Vec<(QemuImage, bool)>> {
    let Some((last, above)) = images.split_last() else {
        return Err(Error::internal("a disk of no files"));
    };
    let mut chain: Vec<_> = above.iter().map(|image| (image.clone(), false)).collect();
    let mut image = last.clone();
    for _ in 0..LONGEST {
        let below = below(&image)
            .with_context(|| format!("open what is below {}", last.path().display()))?;
        chain.push((image, matches!(below, Below::Followed)));
        match below {
            Below::Image(next) => image = next,
            Below::Nothing | Below::Followed => return Ok(chain),
        }
    }
    let path = last.path().display();
    Err(Error::failed_precondition(format!("{path} has more than {LONGEST} files below it")))
}

fn open(image: &QemuImage, write: bool) -> Result<File> {
    let doing = || format!("open the disk image {}", image.path().display());
    let kind = image.path().metadata().with_context(doing)?.file_type();
    // A pipe would block.
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Error::invalid_argument(format!(
            "{}: neither a file nor a block device",
            doing()
        )));
    }
    File::options().read(true).write(write).open(image.path()).with_context(doing)
}

/// What an image refers to.
enum Below {
    Nothing,
    /// Its backing file.
    Image(QemuImage),
    /// Files that QEMU follows itself.
    Followed,
}

fn below(image: &QemuImage) -> Result<Below> {
    if !image.format().refers() {
        return Ok(Below::Nothing);
    }
    let header = Header::read(image.path())?;
    if header.format != image.format() || header.reference.is_none() {
        return Ok(Below::Nothing);
    }
    let Some(backing) = header.backing else { return Ok(Below::Followed) };
    if has_protocol(&backing.name) {
        return Ok(Below::Followed);
    }
    let folder = image.path().parent().unwrap_or(Path::new("."));
    let path = folder.join(&backing.name);
    Ok(Below::Image(match backing.format {
        // A guest may have changed a format that was not written down: its further references are
        // refused.
        None => QemuImage::open(path, References::Refuse)?,
        Some(format) => match super::DiskFormat::named(&format) {
            Some(format) => QemuImage::with_format(path, format).look_for_block_device(),
            None => return Ok(Below::Followed),
        },
    }))
}

/// Whether QEMU parses a name as something other than a path: there is a colon before the first
/// slash.
fn has_protocol(name: &Path) -> bool {
    let name = name.as_os_str().as_encoded_bytes();
    let first = name.iter().find(|byte| matches!(byte, b':' | b'/'));
    first == Some(&b':')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use super::*;
    use crate::disk::{Backing, DiskFormat, write_qcow2};

    fn over(folder: &Path, name: &str, below: &str, format: DiskFormat) -> QemuImage {
        let backing = Backing { path: PathBuf::from(below), format };
        write_qcow2(&folder.join(name), 1 << 20, Some(&backing)).unwrap();
        QemuImage::with_format(folder.join(name), DiskFormat::Qcow2)
    }

    fn shown(disk: &Disk) -> Vec<(String, DiskFormat, bool)> {
        let name =
            |image: &QemuImage| image.path().file_name().unwrap().to_string_lossy().into_owned();
        let layers = disk.layers.iter();
        layers.map(|layer| (name(&layer.image), layer.image.format(), layer.fd.is_some())).collect()
    }

    #[test]
    fn a_chain_is_opened_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base"), [0; 4096]).unwrap();
        over(folder.path(), "middle", "base", DiskFormat::Raw);
        let top = over(folder.path(), "top", "middle", DiskFormat::Qcow2);
        let (disk, files) = Disk::open(&[top], Access::Write).unwrap();
        let name = |name: &str, format| (name.to_owned(), format, true);
        let expected = [
            name("top", DiskFormat::Qcow2),
            name("middle", DiskFormat::Qcow2),
            name("base", DiskFormat::Raw),
        ];
        assert_eq!(shown(&disk), expected);
        // The guest writes to the first one, and to no other.
        let writable: Vec<bool> = files
            .into_iter()
            .map(|file| File::from(file).write_all_at(b"x", 1 << 19).is_ok())
            .collect();
        assert_eq!(writable, [true, false, false]);
    }

    #[test]
    fn a_raw_disk_is_followed_nowhere_whatever_the_guest_wrote() {
        let folder = tempfile::tempdir().unwrap();
        over(folder.path(), "disk", "/etc/passwd", DiskFormat::Raw);
        let disk = QemuImage::with_format(folder.path().join("disk"), DiskFormat::Raw);
        let (disk, _files) = Disk::open(&[disk], Access::Write).unwrap();
        assert_eq!(shown(&disk), [("disk".to_owned(), DiskFormat::Raw, true)]);
    }

    #[test]
    fn what_is_no_path_is_left_to_qemu_and_a_loop_ends() {
        let folder = tempfile::tempdir().unwrap();
        let remote = over(folder.path(), "remote", "nbd://localhost/x", DiskFormat::Raw);
        let (disk, files) = Disk::open(&[remote], Access::Read).unwrap();
        assert_eq!((shown(&disk)[0].2, files.len()), (false, 0));
        let own = over(folder.path(), "own", "own", DiskFormat::Qcow2);
        assert!(Disk::open(&[own], Access::Read).unwrap_err().report().contains("more than 64"));
        let missing = over(folder.path(), "over", "missing", DiskFormat::Raw);
        assert_eq!(Disk::open(&[missing], Access::Read).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
