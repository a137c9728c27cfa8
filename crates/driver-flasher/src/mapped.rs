//! A medium that gets only the mapped blocks of an image, each range checked.

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_files::Turn;
use ring::digest::Context;

use crate::block_map::BlockMap;
use crate::item::ZEROS;
use crate::medium::ImageMedium;

const HINT: &str = "get both again: the image is damaged, or the bmap file is of another image (`--no-bmap` ignores one beside the image)";

/// Passes the mapped blocks of an image on.
pub(crate) struct MappedMedium<M> {
    medium: M,
    map: BlockMap,
    /// The first range that is not complete.
    next: usize,
    /// The checksum of that range so far.
    checksum: Context,
    /// The bytes that were mapped so far.
    mapped: u64,
}

/// Bytes, or a number of zeros.
enum Piece<'a> {
    Data(&'a [u8]),
    Zeros(u64),
}

impl Piece<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Zeros(count) => *count,
        }
    }

    fn split(&self, at: u64) -> (Self, Self) {
        match self {
            Self::Data(bytes) => {
                let (first, rest) = bytes.split_at(at as usize);
                (Self::Data(first), Self::Data(rest))
            }
            Self::Zeros(count) => (Self::Zeros(at), Self::Zeros(count - at)),
        }
    }
}

impl<M: ImageMedium> MappedMedium<M> {
    pub(crate) fn new(medium: M, map: BlockMap) -> Self {
        let checksum = Context::new(map.algorithm);
        Self { medium, map, next: 0, checksum, mapped: 0 }
    }

    fn take(&mut self, mut offset: u64, mut piece: Piece<'_>) -> Result<()> {
        if offset + piece.length() > self.map.image_size {
            return Err(self.wrong_size("longer"));
        }
        while piece.length() > 0 {
            let range = self.map.ranges.get(self.next).map(|range| range.bytes.clone());
            let range = range.unwrap_or(self.map.image_size..self.map.image_size);
            let is_mapped = range.contains(&offset);
            let end = if is_mapped { range.end } else { range.start };
            let (now, rest) = piece.split((end - offset).min(piece.length()));
            let count = now.length();
            match (is_mapped, now) {
                (false, _) => self.medium.skip(offset, count)?,
                (true, Piece::Data(bytes)) => {
                    self.checksum.update(bytes);
                    self.medium.write(offset, bytes)?;
                }
                (true, Piece::Zeros(count)) => {
                    let mut left = count;
                    while left > 0 {
                        let now = left.min(ZEROS.len() as u64);
                        self.checksum.update(&ZEROS[..now as usize]);
                        left -= now;
                    }
                    self.medium.write_zeros(offset, count)?;
                }
            }
            (offset, piece) = (offset + count, rest);
            if is_mapped {
                self.mapped += count;
                if offset == range.end {
                    self.end_range()?;
                }
            }
        }
        Ok(())
    }

    /// Compares the checksum of the range that is complete.
    fn end_range(&mut self) -> Result<()> {
        let checksum = std::mem::replace(&mut self.checksum, Context::new(self.map.algorithm));
        let (found, range) = (hex(checksum.finish().as_ref()), &self.map.ranges[self.next]);
        if found != range.checksum {
            let (first, last) = (range.bytes.start, range.bytes.end - 1);
            let message = format!(
                "bytes {first} to {last} of the image are not those of its block map: their checksum is {found}, not {}",
                range.checksum
            );
            return Err(Error::data_loss(message).with_hint(HINT));
        }
        self.next += 1;
        Ok(())
    }

    fn wrong_size(&self, how: &str) -> Error {
        let size = self.map.image_size;
        let message = format!("the image is {how} than the {size} bytes of its block map");
        Error::data_loss(message).with_hint(HINT)
    }
}

impl<M: ImageMedium> ImageMedium for MappedMedium<M> {
    fn check_room(&mut self, length: u64) -> Result<()> {
        if length > self.map.image_size {
            return Err(self.wrong_size("longer"));
        }
        self.medium.check_room(self.map.image_size)
    }

    fn begin(&mut self) -> Result<()> {
        self.medium.check_room(self.map.image_size)?;
        self.medium.begin()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.take(offset, Piece::Data(bytes))
    }

    fn write_zeros(&mut self, offset: u64, count: u64) -> Result<()> {
        self.take(offset, Piece::Zeros(count))
    }

    fn inspect(&mut self, length: u64) -> Result<()> {
        if length < self.map.image_size {
            return Err(self.wrong_size("shorter"));
        }
        self.medium.inspect(length)
    }

    fn commit(self, length: u64, turn: &Turn) -> Result<()> {
        self.medium.commit(length, turn)?;
        let (mapped, size) = (self.mapped, self.map.image_size);
        tracing::info!("wrote the {mapped} of {size} bytes that the block map names");
        Ok(())
    }

    fn discard(self) {
        self.medium.discard();
    }
}
