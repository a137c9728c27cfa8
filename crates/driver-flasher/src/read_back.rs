//! Verification: what was written is read back from the medium, and compared by checksums.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_files::Turn;
use rustix::fs::{Advice, OFlags, fadvise};
use twox_hash::XxHash3_64;

use crate::thread::check;

/// The bytes of one checksum.
const BLOCK: usize = 64 * 1024;
/// How much is read at once, in bytes.
const WINDOW: usize = 1024 * 1024;
/// Places and lengths of direct reading are multiples of this: no sector or page is larger.
const ALIGNED: usize = 4096;

/// The checksums of what was written, in order; gaps were not written.
#[derive(Default)]
pub(crate) struct Checksums {
    blocks: Vec<Block>,
    /// The bytes of the block that is not complete.
    open: Vec<u8>,
    /// Where the next byte of the open block belongs.
    end: u64,
}

struct Block {
    offset: u64,
    length: usize,
    checksum: u64,
}

impl Checksums {
    /// Adds bytes that were written at `offset`.
    pub(crate) fn add(&mut self, offset: u64, mut bytes: &[u8]) {
        if offset != self.end {
            self.close();
            self.end = offset;
        }
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.open.len()));
            self.end += now.len() as u64;
            bytes = rest;
            match self.open.is_empty() && now.len() == BLOCK {
                true => self.push(now),
                false => self.open.extend_from_slice(now),
            }
            if self.open.len() == BLOCK {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let mut open = std::mem::take(&mut self.open);
            self.push(&open);
            open.clear();
            self.open = open;
        }
    }

    /// Adds the block that ends at `end`.
    fn push(&mut self, bytes: &[u8]) {
        let (length, checksum) = (bytes.len(), XxHash3_64::oneshot(bytes));
        self.blocks.push(Block { offset: self.end - length as u64, length, checksum });
    }

    /// Reads everything back, past the page cache, and compares it. The file must be synced.
    ///
    /// # Errors
    /// `DataLoss` with the first difference; the errors of the disk.
    pub(crate) fn compare(mut self, file: &File, turn: &Turn) -> Result<()> {
        self.close();
        let doing = "reading the image back";
        let mut medium = Medium::new(file).context(doing)?;
        for block in self.blocks {
            check(turn)?;
            let found = medium.read(block.offset, block.length).context(doing)?;
            if XxHash3_64::oneshot(found) != block.checksum {
                let last = block.offset + block.length as u64 - 1;
                let message = format!(
                    "verifying: the medium does not return what was written; the first difference is within bytes {} to {last}",
                    block.offset
                );
                return Err(Error::data_loss(message).with_hint(
                    "flash again; if it fails again, replace the medium or its reader",
                ));
            }
        }
        Ok(())
    }
}

/// Reads a medium past the page cache: directly where the file system or the device can do that,
/// otherwise once the cached pages are dropped.
struct Medium<'f> {
    file: &'f File,
    /// The same file, opened for reading directly.
    direct: Option<File>,
    /// Longer than a window, which begins in it at a multiple of [`ALIGNED`].
    space: Vec<u8>,
    begin: usize,
    /// What the window holds.
    window: Range<u64>,
}

impl<'f> Medium<'f> {
    fn new(file: &'f File) -> io::Result<Self> {
        let flags = OFlags::DIRECT.bits() as i32;
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = File::options().read(true).custom_flags(flags).open(again).ok();
        if direct.is_none() {
            drop_cached(file)?;
        }
        let space = vec![0; WINDOW + ALIGNED];
        let begin = space.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Ok(Self { file, direct, space, begin, window: 0..0 })
    }

    /// The bytes at `offset`, fewer than a window's.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset + length as u64;
        if offset < self.window.start || end > self.window.end {
            self.fill(offset)?;
        }
        if end > self.window.end {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the medium ends early"));
        }
        let at = self.begin + (offset - self.window.start) as usize;
        Ok(&self.space[at..at + length])
    }

    /// Reads the window that begins at or shortly before `offset`.
    fn fill(&mut self, offset: u64) -> io::Result<()> {
        let start = offset / ALIGNED as u64 * ALIGNED as u64;
        let space = &mut self.space[self.begin..self.begin + WINDOW];
        let count = match &self.direct {
            Some(direct) => match read_at(direct, space, start) {
                // It was opened so, and cannot be read so: by a file system that decides late.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.direct = None;
                    drop_cached(self.file)?;
                    read_at(self.file, space, start)?
                }
                count => count?,
            },
            None => read_at(self.file, space, start)?,
        };
        self.window = start..start + count as u64;
        Ok(())
    }
}

/// Reads until `space` is full, or the file ends.
fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < space.len() {
        match file.read_at(&mut space[count..], offset + count as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) => break,
            read => count += read?,
        }
        // Only the last part of a file may be read directly from elsewhere.
        if count % ALIGNED != 0 {
            break;
        }
    }
    Ok(count)
}

/// Drops the pages that are on the disk, so that the disk is read.
fn drop_cached(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::ErrorKind;

    #[test]
    fn the_first_difference_is_named_and_gaps_are_not_read() {
        let file = tempfile::tempfile().unwrap();
        let image: Vec<u8> = (0..300_000_u32).map(|number| number as u8 | 1).collect();
        file.write_all_at(&image, 0).unwrap();
        let checksums = || {
            let mut checksums = Checksums::default();
            let mut offset = 0;
            for piece in image.chunks(70_001) {
                // One piece was not written.
                if offset != 140_002 {
                    checksums.add(offset, piece);
                }
                offset += piece.len() as u64;
            }
            checksums
        };
        let turn = Turn::default();
        checksums().compare(&file, &turn).unwrap();
        file.write_all_at(&[0], 150_000).unwrap();
        checksums().compare(&file, &turn).unwrap();
        file.write_all_at(&[0], 290_000).unwrap();
        file.write_all_at(&[0], 70_000).unwrap();
        let error = checksums().compare(&file, &turn).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss);
        assert!(error.to_string().ends_with("within bytes 65536 to 131071"), "{error}");
        file.set_len(1000).unwrap();
        assert_eq!(checksums().compare(&file, &turn).unwrap_err().kind(), ErrorKind::DataLoss);
    }

    #[test]
    fn without_direct_reading_the_cached_pages_are_dropped() {
        let file = tempfile::tempfile().unwrap();
        let image: Vec<u8> = (0..WINDOW as u32 + 70_001).map(|number| number as u8).collect();
        file.write_all_at(&image, 0).unwrap();
        file.sync_all().unwrap();
        let mut medium = Medium::new(&file).unwrap();
        // One that was not opened for direct reading takes what is not aligned as well.
        medium.direct = None;
        for (offset, length) in [(1, 5), (WINDOW - 3, 10), (WINDOW + 1, 70_000), (0, 4096)] {
            let found = medium.read(offset as u64, length).unwrap();
            assert!(found == &image[offset..offset + length], "{offset}");
        }
        let error = medium.read(image.len() as u64 - 4, 5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_page_cache_is_passed() {
        use jumpstarter_supervise::{Command, run_blocking};
        let limit = std::time::Duration::from_secs(20);
        let backing = tempfile::NamedTempFile::new().unwrap();
        let image = vec![7; 1 << 20];
        backing.as_file().write_all_at(&image, 0).unwrap();
        let losetup = Command::new("losetup").args(["--find", "--show"]).arg(backing.path());
        let path = match run_blocking(losetup, limit) {
            Ok(output) => output.stdout_text().trim().to_owned(),
            Err(error) => {
                jumpstarter_driver_testkit::skip(&format!("losetup does not work: {error}"));
                return;
            }
        };
        let device = File::options().read(true).write(true).open(&path).unwrap();
        device.write_all_at(&image, 0).unwrap();
        device.sync_all().unwrap();
        let mut checksums = Checksums::default();
        checksums.add(0, &image);
        // The medium changes what it was given; the device's cache has it still.
        backing.as_file().write_all_at(&[8], 500_000).unwrap();
        let mut cached = [0];
        device.read_exact_at(&mut cached, 500_000).unwrap();
        assert!(Medium::new(&device).unwrap().direct.is_some());
        let compared = checksums.compare(&device, &Turn::default());
        drop(device);
        run_blocking(Command::new("losetup").args(["--detach", &path]), limit).unwrap();
        assert_eq!(cached, [7]);
        let error = compared.unwrap_err().to_string();
        assert!(error.ends_with("within bytes 458752 to 524287"), "{error}");
    }
}
