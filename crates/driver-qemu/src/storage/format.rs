//! The format of a configured root image: detected once, and never again after a guest could write
//! to it.
//!
//! With `root_writes: persist` a guest writes to the image itself. Into a raw one it can write
//! another format's header, which names a file of this host. So the format is recorded beside the
//! image, in an extended attribute, before the first guest runs. From then on, even after a restart
//! of this program, the record takes precedence over the file's contents. `root_format` takes
//! precedence over both.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use jumpstarter_codec::{Compression, FOREIGN_SIGNATURE, foreign};
use jumpstarter_driver_core::ConfigProblem;
use jumpstarter_driver_core::prelude::*;
use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::Partition;
use crate::config::{QemuConfig, RootWrites};
use crate::disk::{DiskFormat, Header, QemuImage, References};

/// The attribute that records an image's format.
const ATTRIBUTE: &str = "user.jumpstarter.disk-format";

/// The configured root image, with its format.
pub(super) fn find_configured(path: &Path, config: &QemuConfig) -> Result<QemuImage> {
    if let Some(format) = config.root_format.or_else(|| recall(path)) {
        warn_if_it_says_otherwise(path, format);
        return Ok(QemuImage::with_format(path, format).look_for_block_device());
    }
    if path.metadata()?.file_type().is_block_device() {
        // Nothing can be recorded beside it, and its last writer is unknown.
        warn_if_it_says_otherwise(path, DiskFormat::Raw);
        return Ok(QemuImage::with_format(path, DiskFormat::Raw).on_block_device());
    }
    if let Some(problem) = compressed(path) {
        return Err(
            Error::invalid_argument(problem.message).with_hint(problem.hint.unwrap_or_default())
        );
    }
    if config.root_writes != RootWrites::Persist {
        return QemuImage::open(path, References::Allow);
    }
    // A guest may have written to it already: without the owner's setting it must be complete.
    let image = QemuImage::open(path, References::Refuse).map_err(|error| match error.kind() {
        ErrorKind::FailedPrecondition => Error::failed_precondition(format!("{error:#}")).with_hint(
            "with `root_writes: persist` it may be the guest's word: set `root_format`, to `raw` if it is a raw disk",
        ),
        _ => error,
    })?;
    remember(&image)?;
    Ok(image)
}

/// Records the format of an image that a guest will write to.
///
/// # Errors
/// `FailedPrecondition` if it cannot be recorded: at the next start the file's contents could be
/// the guest's.
fn remember(image: &QemuImage) -> Result<()> {
    let (path, format) = (image.path(), image.format());
    match (setxattr(path, ATTRIBUTE, format.name().as_bytes(), XattrFlags::empty()), format) {
        (Ok(()), _) => Ok(()),
        // If it looks like another format the next time, that is refused below.
        (Err(error), DiskFormat::Raw) => {
            let path = path.display();
            tracing::warn!(%error, "{path}: its format cannot be written down; set `root_format: raw`");
            Ok(())
        }
        (Err(error), _) => {
            let message =
                format!("the format of {} cannot be written down beside it", path.display());
            Err(Error::failed_precondition(message)
                .with_source(std::io::Error::from(error))
                .with_hint(format!("set `root_format: {format}`, since the guest may write to it")))
        }
    }
}

fn recall(path: &Path) -> Option<DiskFormat> {
    let mut value = [0; 16];
    let length = getxattr(path, ATTRIBUTE, &mut value[..]).ok()?;
    std::str::from_utf8(&value[..length]).ok().and_then(DiskFormat::named)
}

/// A file that was replaced in place is indistinguishable from one into which a guest wrote.
fn warn_if_it_says_otherwise(path: &Path, format: DiskFormat) {
    let says = Header::read(path).ok().map(|header| header.format);
    if let Some(says) = says.filter(|says| *says != format) {
        let path = path.display();
        tracing::warn!(
            "{path} is used as {format}, and looks like {says}, as a guest may have made it look; where it is another \
             image, set `root_format: {says}`"
        );
    }
}

/// The configured images that are compressed, or archives: a machine gets them unchanged, and would
/// not boot.
pub(crate) fn compressed_defaults(config: &QemuConfig) -> Vec<ConfigProblem> {
    let partitions = Partition::ALL.into_iter();
    let partitions = partitions
        .filter(|partition| *partition != Partition::Root || config.root_format.is_none());
    let found = partitions.filter_map(|partition| {
        let path = partition.configured(config)?;
        // A guest's data on its raw disk is not checked.
        let mut problem = compressed(path).filter(|_| recall(path).is_none())?;
        problem.field = format!("default_partitions.{}", partition.name());
        Some(problem)
    });
    found.collect()
}

/// The problem of a file that contains an image but is none.
fn compressed(path: &Path) -> Option<ConfigProblem> {
    // Opening another kind of file could block; a missing one is reported elsewhere.
    let file = path
        .metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .and_then(|_| File::open(path).ok())?;
    let mut start = Vec::new();
    file.take(FOREIGN_SIGNATURE as u64).read_to_end(&mut start).ok()?;
    let (what, hint) = match (Compression::detect(&start), foreign(&start)) {
        (Compression::Raw, None) => return None,
        (Compression::Raw, Some(found)) => (found.to_string(), found.hint().to_owned()),
        (compression, _) => (
            format!("compressed with {compression}"),
            "decompress it, or leave it out here and flash it, which decompresses it".to_owned(),
        ),
    };
    let message = format!("{} is {what}: a machine would be given it as it is", path.display());
    Some(ConfigProblem::new("", message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, root_format: Option<DiskFormat>) -> QemuConfig {
        let mut config =
            QemuConfig { root_writes: RootWrites::Persist, root_format, ..QemuConfig::default() };
        config.default_partitions.root = Some(path.into());
        config
    }

    #[test]
    fn what_a_guest_wrote_is_not_believed_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![0; 4096]).unwrap();
        let plain = config(&path, None);
        assert_eq!(find_configured(&path, &plain).unwrap().format(), DiskFormat::Raw);
        let evil = folder.path().join("evil");
        crate::disk::write_qcow2(&evil, 1 << 20, None).unwrap();
        std::fs::write(&path, std::fs::read(&evil).unwrap()).unwrap();
        if setxattr(&path, "user.test", b"x", XattrFlags::empty()).is_err() {
            return jumpstarter_driver_testkit::skip("this file system keeps no attributes");
        }
        assert_eq!(find_configured(&path, &plain).unwrap().format(), DiskFormat::Raw);
        // In another mode, too; and the owner's setting takes precedence.
        let overlay = QemuConfig { root_writes: RootWrites::Overlay, ..plain.clone() };
        assert_eq!(find_configured(&path, &overlay).unwrap().format(), DiskFormat::Raw);
        let told = config(&path, Some(DiskFormat::Qcow2));
        assert_eq!(find_configured(&path, &told).unwrap().format(), DiskFormat::Qcow2);
        // Another file at its path is another image.
        std::fs::rename(&evil, &path).unwrap();
        assert_eq!(find_configured(&path, &plain).unwrap().format(), DiskFormat::Qcow2);
    }

    #[test]
    fn a_format_that_cannot_be_written_down_has_to_be_given() {
        // This file system keeps no user attributes.
        let path = Path::new("/proc/self/cmdline");
        let error = remember(&QemuImage::with_format(path, DiskFormat::Qcow2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.hint().unwrap().contains("root_format: qcow2"), "{error:?}");
        remember(&QemuImage::with_format(path, DiskFormat::Raw)).unwrap();
    }

    #[test]
    fn an_image_that_a_guest_may_have_written_has_to_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let backing = crate::disk::Backing { path: "/etc/passwd".into(), format: DiskFormat::Raw };
        crate::disk::write_qcow2(&path, 1 << 20, Some(&backing)).unwrap();
        let persist = config(&path, None);
        let error = find_configured(&path, &persist).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.hint().unwrap().contains("root_format"), "{error:?}");
        find_configured(&path, &config(&path, Some(DiskFormat::Qcow2))).unwrap();
        let overlay = QemuConfig { root_writes: RootWrites::Overlay, ..persist };
        find_configured(&path, &overlay).unwrap();
    }

    #[test]
    fn compressed_images_are_faults_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        for (start, expected) in [
            (&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], "compressed with gzip"),
            (b"\xfd7zXZ\0\0\x04", "compressed with xz"),
            (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
            (b"PK\x03\x04", "a zip archive"),
        ] {
            std::fs::write(&path, start).unwrap();
            let problems = compressed_defaults(&config(&path, None));
            assert_eq!(problems[0].field, "default_partitions.root");
            assert!(
                problems[0].message.contains(expected) && problems[0].hint.is_some(),
                "{problems:?}"
            );
            let error = find_configured(&path, &config(&path, None)).unwrap_err();
            assert!(
                error.kind() == ErrorKind::InvalidArgument && error.hint().is_some(),
                "{error:?}"
            );
            assert!(
                compressed_defaults(&config(&path, Some(DiskFormat::Raw))).is_empty(),
                "the owner says so"
            );
        }
        let mut code = QemuConfig::default();
        code.default_partitions.ovmf_code = Some(path.clone().into());
        assert_eq!(compressed_defaults(&code)[0].field, "default_partitions.OVMF_CODE.fd");
        std::fs::write(&path, vec![0; 4096]).unwrap();
        assert!(compressed_defaults(&config(&path, None)).is_empty());
        assert!(compressed_defaults(&config(&folder.path().join("missing"), None)).is_empty());
    }
}
