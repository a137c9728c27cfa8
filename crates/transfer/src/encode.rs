//! Encoding of images on their way.

use jumpstarter_driver_core::image::{BoxWriter, Encoding};

/// A writer that encodes; its shutdown writes the end of the file. Where the crate was built
/// without the encoding's feature, writing fails with `Unimplemented`.
pub fn encode(encoding: Encoding, writer: BoxWriter) -> BoxWriter {
    match encoding {
        #[cfg(feature = "gzip")]
        Encoding::Gzip => Box::pin(async_compression::tokio::write::GzipEncoder::new(writer)),
        #[cfg(feature = "xz")]
        Encoding::Xz => Box::pin(async_compression::tokio::write::XzEncoder::new(writer)),
        #[cfg(feature = "bzip2")]
        Encoding::Bz2 => Box::pin(async_compression::tokio::write::BzEncoder::new(writer)),
        #[cfg(feature = "zstd")]
        Encoding::Zstd => Box::pin(async_compression::tokio::write::ZstdEncoder::new(writer)),
        #[cfg(not(all(feature = "gzip", feature = "xz", feature = "bzip2", feature = "zstd")))]
        missing => {
            // Dropped unfinished, the writer leaves its target as it is.
            drop(writer);
            Box::pin(without::Without(missing))
        }
    }
}

#[cfg(not(all(feature = "gzip", feature = "xz", feature = "bzip2", feature = "zstd")))]
mod without {
    //! An encoding that this program was built without.

    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use jumpstarter_driver_core::Error;
    use jumpstarter_driver_core::image::Encoding;
    use tokio::io::AsyncWrite;

    /// Fails.
    pub(super) struct Without(pub(super) Encoding);

    impl Without {
        fn fail<T>(&self) -> Poll<io::Result<T>> {
            let message = format!("this program was built without {}", self.0);
            Poll::Ready(Err(Error::unimplemented(message).into()))
        }
    }

    impl AsyncWrite for Without {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.fail()
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.fail()
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.fail()
        }
    }
}
