//! What keeps a file from being replaced by another one, found before anything is written.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why the file at `path` cannot be replaced by a rename, or must not: what uses it would go on
/// with the old one.
pub(crate) fn obstacle(path: &Path, old: &Metadata, folder: &Path) -> Option<&'static str> {
    if let Some(attribute) = attribute(path) {
        return Some(attribute);
    }
    if is_kept_by_the_folder(old, folder) {
        return Some("in its folder only the owner of a file may replace it");
    }
    is_behind_a_loop_device(old).then_some("a loop device uses it")
}

#[cfg(target_os = "linux")]
fn attribute(path: &Path) -> Option<&'static str> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let found =
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()).ok()?.stx_attributes;
    [
        (StatxAttributes::MOUNT_ROOT, "it is a mount point"),
        (StatxAttributes::IMMUTABLE, "it is immutable (chattr +i)"),
        (StatxAttributes::APPEND, "it can only be appended to (chattr +a)"),
    ]
    .into_iter()
    .find_map(|(attribute, why)| found.contains(attribute).then_some(why))
}

#[cfg(not(target_os = "linux"))]
fn attribute(_: &Path) -> Option<&'static str> {
    None
}

/// Whether the folder is sticky, as `/tmp` is, and both it and the file are other users'.
fn is_kept_by_the_folder(old: &Metadata, folder: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    let us = rustix::process::geteuid();
    !us.is_root()
        && old.uid() != us.as_raw()
        && std::fs::metadata(folder)
            .is_ok_and(|folder| folder.mode() & STICKY != 0 && folder.uid() != us.as_raw())
}

/// Linux lists the files of its loop devices.
fn is_behind_a_loop_device(old: &Metadata) -> bool {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return false };
    devices.flatten().any(|device| {
        let backing = std::fs::read(device.path().join("loop/backing_file")).unwrap_or_default();
        let path = backing.strip_suffix(b"\n").unwrap_or(&backing);
        let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
        !backing.is_empty()
            && std::fs::metadata(path)
                .is_ok_and(|backing| (backing.dev(), backing.ino()) == (old.dev(), old.ino()))
    })
}
