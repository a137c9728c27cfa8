//! The part of a file system that images may use: it keeps a reserve.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// The reserve: a twentieth of the file system, but no more than this, in bytes.
const RESERVE: u64 = 1 << 30;
/// How much is written, in bytes, before the free space is checked again: others write to it, too.
const LOOK_EVERY: u64 = 8 << 20;

/// Limits what is written to the free space of a file system, except a reserve. It asks for the
/// free space at the start, and again after each 8 MiB.
#[derive(Debug, Default)]
pub struct Room {
    left: u64,
}

impl Room {
    /// Makes sure that `count` bytes can be written to `file` and leave the reserve. Blocks.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull) if they do not fit. The errors of the file
    /// system.
    pub fn take(&mut self, file: &File, count: u64) -> io::Result<()> {
        if count > self.left {
            self.left = room_of(fstatvfs(file)?).min(LOOK_EVERY.max(count));
        }
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is almost full"));
            }
        }
        Ok(())
    }
}

/// The bytes that an image may use in the file system of `path`: the free ones, except a reserve of
/// a twentieth of the file system, at most 1 GiB. [`u64::MAX`] where the file system does not
/// report its size. Blocks.
///
/// # Errors
/// The errors of the file system.
pub fn free_room(path: &Path) -> io::Result<u64> {
    Ok(room_of(statvfs(path)?))
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
