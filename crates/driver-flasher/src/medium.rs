//! What an image is written to: files, block devices, and a driver's own hardware.

use crate::item::ZEROS;
use jumpstarter_driver_core::Result;
use jumpstarter_files::Turn;

/// Where [`write_image_to`](crate::write_image_to) puts an image: staged, inspected, then committed.
///
/// A driver that writes to a chip, a card or a server implements it. The methods are called one
/// after the other on a thread that may block, with pieces that are decompressed:
///
/// 1. [`begin`](Self::begin), once the first bytes are there: a source that fails before changes
///    nothing;
/// 2. [`write`](Self::write) and [`write_zeros`](Self::write_zeros), in order and without gaps;
/// 3. [`inspect`](Self::inspect), once the image is whole and its digest is the expected one;
/// 4. [`commit`](Self::commit).
///
/// After any error, and when the caller went away, [`discard`](Self::discard) ends it instead. A
/// medium that keeps what was there until `commit` is whole at any time; one that cannot says so in
/// its documentation.
pub trait ImageMedium: Send + 'static {
    /// Makes ready to write. Releases what it took itself where it fails.
    ///
    /// # Errors
    /// The medium's own.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes `bytes` at `offset` of the image.
    ///
    /// # Errors
    /// The medium's own.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Writes `count` zeros at `offset`: less work where they are there already.
    ///
    /// # Errors
    /// The medium's own.
    fn write_zeros(&mut self, offset: u64, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let now = (count - done).min(ZEROS.len() as u64);
            self.write(offset + done, &ZEROS[..now as usize])?;
            done += now;
        }
        Ok(())
    }

    /// Has a look at the whole image of `length` bytes, before it takes the old one's place.
    ///
    /// # Errors
    /// What is wrong with it; the old image stays.
    fn inspect(&mut self, length: u64) -> Result<()> {
        let _ = length;
        Ok(())
    }

    /// Puts the image of `length` bytes in the old one's place, for good. A step that replaces a
    /// file runs in [`Turn::last_step`], so that a caller who goes away meanwhile cannot replace
    /// what the next one wrote.
    ///
    /// # Errors
    /// The medium's own. It leaves what `discard` would leave.
    fn commit(self, length: u64, turn: &Turn) -> Result<()>;

    /// Gives up: what was written is removed, where that is possible.
    fn discard(self);
}
