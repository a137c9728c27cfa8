//! An image in the cache: its bytes, the checksums of its pieces, and a footer.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use jumpstarter_driver_core::{Result, blocking};
use rustix::fs::OFlags;
use twox_hash::XxHash3_64;

/// The bytes of one checksum.
pub(super) const PIECE: usize = 1 << 20;
/// The length of the footer: the image's length, the checksum of the table, and [`MAGIC`].
pub(super) const FOOTER: u64 = 24;
const MAGIC: &[u8; 8] = b"jmpimg1\n";

/// How long the table of an image of this length is.
pub(super) fn table_length(length: u64) -> u64 {
    length.div_ceil(PIECE as u64) * 8
}

/// The table and the footer of an image.
pub(super) fn ending(length: u64, checksums: &[u64]) -> Vec<u8> {
    let mut ending: Vec<u8> = checksums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    let checksum = XxHash3_64::oneshot(&ending);
    ending.extend(length.to_le_bytes());
    ending.extend(checksum.to_le_bytes());
    ending.extend(MAGIC);
    ending
}

/// An opened entry, read from its beginning.
pub(super) struct Entry {
    file: Arc<File>,
    length: u64,
    checksums: Vec<u64>,
    /// The next piece.
    next: usize,
}

impl Entry {
    /// Opens an entry of at most `limit` bytes, and checks its footer and its table.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        // Neither a link nor a pipe, which would wait for its writer.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() > limit {
            return Err(damaged());
        }
        let begin = found.len().checked_sub(FOOTER).ok_or_else(damaged)?;
        let mut footer = [0; FOOTER as usize];
        file.read_exact_at(&mut footer, begin)?;
        let [length, checksum, magic] = [0, 8, 16].map(|at| number(&footer[at..at + 8]));
        if magic != number(MAGIC) || length > begin || length + table_length(length) != begin {
            return Err(damaged());
        }
        let mut table = vec![0; table_length(length) as usize];
        file.read_exact_at(&mut table, length)?;
        if XxHash3_64::oneshot(&table) != checksum {
            return Err(damaged());
        }
        let checksums = table.chunks_exact(8).map(number).collect();
        Ok(Self { file: Arc::new(file), length, checksums, next: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Notes when it was used.
    pub(super) fn touch(&self, now: SystemTime) {
        if let Err(error) = self.file.set_modified(now) {
            tracing::debug!(%error, "the use of an image in the cache is not noted");
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// `DataLoss` for one that is not what was written.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(checksum) = self.checksums.get(self.next).copied() else { return Ok(None) };
        let offset = self.next as u64 * PIECE as u64;
        let length = (self.length - offset).min(PIECE as u64) as usize;
        let file = self.file.clone();
        let piece = blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, offset)?;
            match XxHash3_64::oneshot(&piece) == checksum {
                true => Ok(Bytes::from(piece)),
                false => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
        });
        self.next += 1;
        piece.await.map(Some)
    }
}

/// The number of eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
