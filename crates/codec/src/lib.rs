//! The compressions of images: signatures, decoders that accept whole files only, and the buffers
//! to decode into.
//!
//! Flashers use it for files that are compressed, the exporter for what is compressed on its way.
//!
//! ```
//! use jumpstarter_codec::Compression;
//!
//! assert_eq!(Compression::of(b"\x28\xb5\x2f\xfd and so on"), Compression::Zstd);
//! assert_eq!(Compression::of(b"\xebboot sector"), Compression::Raw);
//! ```

mod compression;
mod decoder;
mod decompress;
mod foreign;
mod members;
mod memory;
mod pool;
mod xz;
mod zstandard;

pub use compression::{Compression, SIGNATURE};
pub use decompress::{decompress, fill};
pub use foreign::{FOREIGN_SIGNATURE, Foreign, foreign};
pub use memory::Memory;
pub use pool::{BUFFER, Buffer, Pool};
