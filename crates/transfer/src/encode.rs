//! Encoding of images on their way.

use async_compression::tokio::write;
use jumpstarter_driver_core::image::{BoxWriter, Encoding};

/// A writer that encodes; its shutdown writes the end of the file.
pub fn encode(encoding: Encoding, writer: BoxWriter) -> BoxWriter {
    match encoding {
        Encoding::Gzip => Box::pin(write::GzipEncoder::new(writer)),
        Encoding::Xz => Box::pin(write::XzEncoder::new(writer)),
        Encoding::Bz2 => Box::pin(write::BzEncoder::new(writer)),
        Encoding::Zstd => Box::pin(write::ZstdEncoder::new(writer)),
    }
}
