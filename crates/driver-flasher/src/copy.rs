//! Copies an image into a writer.

use crate::medium::ImageMedium;
use crate::options::{WriteOptions, WriteReport};
use crate::thread::gone;
use crate::write::write_image_to;
use jumpstarter_driver_core::{ImageSource, Result};
use jumpstarter_files::Turn;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Copies an image into a writer, such as the connection to a boot loader.
pub trait CopyImage {
    /// Copies the image to `writer`, decompressed, and shuts it down once the image was complete
    /// and its digest correct. Otherwise, and after a cancellation, the writer is dropped without a
    /// shutdown: its other side must not accept the bytes as an image.
    ///
    /// # Errors
    /// The errors of [`write_image`](crate::write_image), and of the writer.
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

/// A medium that wraps a writer.
struct WriterMedium<W> {
    writer: W,
    runtime: Handle,
    /// Closes when the caller drops its future: a blocked writer must not keep the thread.
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
        // The dropped value may belong to the runtime.
        let _runtime = self.runtime.enter();
        drop(self.writer);
    }
}
