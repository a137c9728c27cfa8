//! Copies an image to whatever takes bytes.

use crate::medium::ImageMedium;
use crate::options::{WriteOptions, WriteReport};
use crate::thread::gone;
use crate::write::write_image_to;
use jumpstarter_driver_core::{ImageSource, Result};
use jumpstarter_files::Turn;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

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
