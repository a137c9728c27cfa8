//! Verification: what was written is read back from the medium, and compared by checksums.

use std::fs::File;
use std::os::unix::fs::FileExt;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_files::Turn;
use rustix::fs::{Advice, fadvise};
use twox_hash::XxHash3_64;

use crate::thread::check;

/// The bytes of one checksum.
const BLOCK: usize = 64 * 1024;

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
        // Pages that are on the disk are dropped, so that the disk is read.
        fadvise(file, 0, None, Advice::DontNeed).map_err(std::io::Error::from).context(doing)?;
        let mut space = vec![0; BLOCK];
        for block in self.blocks {
            check(turn)?;
            let found = &mut space[..block.length];
            file.read_exact_at(found, block.offset).context(doing)?;
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
        let compared = checksums.compare(&device, &Turn::default());
        drop(device);
        run_blocking(Command::new("losetup").args(["--detach", &path]), limit).unwrap();
        assert_eq!(cached, [7]);
        let error = compared.unwrap_err().to_string();
        assert!(error.ends_with("within bytes 458752 to 524287"), "{error}");
    }
}
