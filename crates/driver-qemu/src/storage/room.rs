//! Disk space for the guest's writes, and for copies of its disk.
//!
//! The guest's writes to its overlay are limited only by the size of its disk and the free space of
//! the file system: QEMU pauses the guest when that is full. So the space is checked before the
//! start, and before a disk is copied for a dump.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::free_room;

use crate::disk::QemuImage;

/// No guest boots with less space.
const LEAST: ByteSize = ByteSize::mebibytes(1);

/// Checks that a guest can write to a file in `folder`, and warns if space is low.
///
/// # Errors
/// `ResourceExhausted` if the file system has less than 1 MiB free. The errors of the file system.
pub(super) fn check_for_writes(folder: &Path) -> Result<()> {
    let doing = || format!("looking for room in {}", folder.display());
    if free_room(folder).with_context(doing)? > 0 {
        return Ok(());
    }
    let system = rustix::fs::statvfs(folder).map_err(std::io::Error::from).with_context(doing)?;
    let free = ByteSize::bytes(system.f_bavail * system.f_frsize);
    let folder = folder.display();
    if free < LEAST {
        let message = format!("no room for what the guest writes: {free} are free in {folder}");
        return Err(Error::resource_exhausted(message)
            .with_hint("make room there, or set TMPDIR to a folder of a larger file system"));
    }
    tracing::warn!(
        "only {free} are free in {folder}, where the guest's writes go: it is paused when they are \
         used up"
    );
    Ok(())
}

/// The error for an image that does not fit the free room on a sidecar's volume of that size.
pub(super) fn not_on_volume(error: &Error, (room, size): (ByteSize, ByteSize)) -> Error {
    let message =
        format!("{error:#}; the volume that QEMU's sidecar shares has {room} of {size} left");
    Error::resource_exhausted(message).with_hint(
        "flash a smaller image, such as a qcow2 one; where the volume is larger, set `flash_limit`",
    )
}

/// Checks that `folder` has space for a copy of a disk: at least the current size of its files.
///
/// # Errors
/// `ResourceExhausted`, before anything is written. The errors of the file system.
pub(super) fn check_for_copy(folder: &Path, disk: &[&QemuImage]) -> Result<()> {
    let mut needed = 0;
    for image in disk {
        let path = image.path();
        let metadata = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
        needed += metadata.blocks() * 512;
    }
    let room =
        free_room(folder).with_context(|| format!("looking for room in {}", folder.display()))?;
    if needed > room {
        let (needed, room) = (ByteSize::bytes(needed), ByteSize::bytes(room));
        let folder = folder.display();
        let message =
            format!("the disk takes {needed}, and a copy of it may take {room} in {folder}");
        return Err(Error::resource_exhausted(message)
            .with_hint("make room there, or set TMPDIR to a folder of a larger file system"));
    }
    Ok(())
}
