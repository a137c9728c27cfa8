//! The media of images: files, block devices, and a driver's hardware.

use crate::item::ZEROS;
use jumpstarter_driver_core::Result;
use jumpstarter_files::Turn;

/// The medium into which [`write_image_to`](crate::write_image_to) puts an image: staged,
/// inspected, then committed.
///
/// A driver that writes to a chip, a card or a server implements it. The methods are called one
/// after the other on a thread that may block, with pieces that are decompressed:
///
/// 1. [`begin`](Self::begin), once the first bytes have arrived: a source that fails before changes
///    nothing;
/// 2. [`write`](Self::write), [`write_zeros`](Self::write_zeros) and, for an image with a block
///    map, [`skip`](Self::skip), in order and without gaps;
/// 3. [`inspect`](Self::inspect), once the image is complete and its digest is correct;
/// 4. [`commit`](Self::commit).
///
/// After any error, and after a cancellation, [`discard`](Self::discard) ends it instead. A medium
/// that keeps the old image until `commit` is complete at any time; one that cannot says so in its
/// documentation.
pub trait ImageMedium: Send + 'static {
    /// Checks, before `begin`, that an image of at least `length` bytes fits. It is called only if
    /// the source or the header of its compression gives a length.
    ///
    /// # Errors
    /// `ResourceExhausted` if the image does not fit; nothing was changed.
    fn check_room(&mut self, length: u64) -> Result<()> {
        let _ = length;
        Ok(())
    }

    /// Prepares the medium. After a failure it must release everything itself.
    ///
    /// # Errors
    /// The medium's errors.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes `bytes` at `offset` of the image.
    ///
    /// # Errors
    /// The medium's errors.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Writes `count` zeros at `offset`: less work if they are zeros already.
    ///
    /// # Errors
    /// The medium's errors.
    fn write_zeros(&mut self, offset: u64, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let now = (count - done).min(ZEROS.len() as u64);
            self.write(offset + done, &ZEROS[..now as usize])?;
            done += now;
        }
        Ok(())
    }

    /// Passes over `count` bytes at `offset` that the image does not map: what is there is of no
    /// use. Without an implementation they become zeros.
    ///
    /// # Errors
    /// The medium's errors.
    fn skip(&mut self, offset: u64, count: u64) -> Result<()> {
        self.write_zeros(offset, count)
    }

    /// Inspects the complete image of `length` bytes, before it replaces the old one.
    ///
    /// # Errors
    /// The image's fault; the old image stays.
    fn inspect(&mut self, length: u64) -> Result<()> {
        let _ = length;
        Ok(())
    }

    /// Replaces the old image with that of `length` bytes, for good. A step that replaces a file
    /// runs in [`Turn::last_step`], so that a caller that is cancelled meanwhile cannot replace the
    /// next one's result.
    ///
    /// # Errors
    /// The medium's errors. It must leave the same state as `discard`.
    fn commit(self, length: u64, turn: &Turn) -> Result<()>;

    /// Cancels: removes the written part, if possible.
    fn discard(self);
}
