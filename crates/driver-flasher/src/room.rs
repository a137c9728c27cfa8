//! The part of a file system that an image may use: it keeps a reserve.

use jumpstarter_driver_core::prelude::ByteSize;
use jumpstarter_driver_core::{Error, Result};
use rustix::fs::{StatVfs, fstatvfs, statvfs};
use std::fs::File;
use std::path::Path;

/// The reserve: a twentieth of the file system, but no more than this, in bytes.
const RESERVE: u64 = 1 << 30;
/// How much is written, in bytes, before the free space is checked again: others write to it, too.
const LOOK_EVERY: u64 = 8 << 20;

/// The space that may be written before the next check.
#[derive(Debug, Default)]
pub(crate) struct Room {
    left: u64,
}

impl Room {
    /// Makes sure that `count` bytes can be written to `file` and leave the reserve.
    pub(crate) fn take(&mut self, file: &File, count: u64) -> Result<()> {
        if count > self.left {
            self.left = look(file)?.min(LOOK_EVERY.max(count));
        }
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                return Err(Error::resource_exhausted("the disk is almost full"));
            }
        }
        Ok(())
    }
}

/// The bytes that an image may use in the file system of `path`: the free ones, except a reserve of
/// a twentieth of the file system, at most 1 GiB. Blocks.
///
/// # Errors
/// The errors of the file system.
pub fn free_room(path: &Path) -> Result<u64> {
    Ok(room_of(statvfs(path).map_err(std::io::Error::from)?))
}

/// How many bytes can be written.
fn look(file: &File) -> Result<u64> {
    Ok(room_of(fstatvfs(file).map_err(std::io::Error::from)?))
}

fn room_of(system: StatVfs) -> u64 {
    let (total, free) = (system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize);
    allowed(total, free)
}

fn allowed(total: u64, free: u64) -> u64 {
    match total {
        // Some file systems do not report it.
        0 => u64::MAX,
        _ => free.saturating_sub((total / 20).min(RESERVE)),
    }
}

/// The error of an image above its limit.
pub(crate) fn too_large(limit: u64) -> Error {
    let message =
        format!("the image is larger than {}, the most that is allowed", ByteSize::bytes(limit));
    Error::resource_exhausted(message)
        .with_hint("flash a smaller image, or raise `flash_limit` in the exporter file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_stays_free() {
        const GIB: u64 = 1 << 30;
        for (total, free, expected) in [
            (100 * GIB, 30 * GIB, 29 * GIB),
            (100 * GIB, GIB / 2, 0),
            (GIB, GIB, GIB - GIB / 20),
            (0, 0, u64::MAX),
        ] {
            assert_eq!(allowed(total, free), expected, "{total} {free}");
        }
    }
}
