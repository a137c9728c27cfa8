//! What an image is written to: a driver's own hardware, or whatever takes bytes.

use crate::item::ZEROS;
use crate::thread::gone;
use crate::write::{WriteOptions, WriteReport, write_image_to};
use jumpstarter_driver_core::{ImageSource, Result};
use jumpstarter_files::Turn;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Where [`write_image_to`] puts an image: staged, inspected, then committed.
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

/// Copies an image to what takes bytes, such as the connection to a boot loader.
pub trait CopyImage {
    /// Copies the image to `writer`, decompressed, and shuts it down once the image was whole and
    /// its digest the expected one. Otherwise, and when this is cancelled, the writer is dropped
    /// without a shutdown: its other side must not take what came for an image.
    ///
    /// # Errors
    /// As [`write_image`](crate::write_image), and what the writer fails with.
    fn copy_to(
        self,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        options: WriteOptions,
    ) -> impl Future<Output = Result<WriteReport>> + Send;
}

impl CopyImage for ImageSource {
    async fn copy_to(
        self,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        options: WriteOptions,
    ) -> Result<WriteReport> {
        // Held until this is dropped.
        let (_caller, gone) = oneshot::channel();
        let medium = WriterMedium { writer, runtime: Handle::current(), gone };
        write_image_to(self, medium, options).await
    }
}

/// Whatever takes bytes.
struct WriterMedium<W> {
    writer: W,
    runtime: Handle,
    /// Ends when the caller is gone: a writer that takes nothing must not hold up the thread.
    gone: oneshot::Receiver<()>,
}

impl<W: AsyncWrite + Send + Unpin + 'static> ImageMedium for WriterMedium<W> {
    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        self.runtime.block_on(async {
            tokio::select! {
                _ = &mut self.gone => Err(gone()),
                written = self.writer.write_all(bytes) => Ok(written?),
            }
        })
    }

    fn commit(mut self, _: u64, _: &Turn) -> Result<()> {
        self.runtime.block_on(async {
            tokio::select! {
                _ = &mut self.gone => Err(gone()),
                done = self.writer.shutdown() => Ok(done?),
            }
        })
    }

    fn discard(self) {
        // What is dropped may belong to the runtime.
        let _runtime = self.runtime.enter();
        drop(self.writer);
    }
}
