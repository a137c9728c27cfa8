//! The compressions of images: signatures, decoders that accept only complete files, and the
//! buffers to decode into.
//!
//! Flashers use it for compressed files, the exporter for compressed transfers.
//!
//! Each compression has a feature (`gzip`, `xz` with lzma and lzip, `bzip2`, `zstd`, `lz4`), all on
//! by default. Without it a file is still detected, and refused by name. Android sparse images need
//! none.
//!
//! ```
//! use jumpstarter_codec::Compression;
//!
//! assert_eq!(Compression::detect(b"\x28\xb5\x2f\xfd and so on"), Compression::Zstd);
//! assert_eq!(Compression::detect(b"\xebboot sector"), Compression::Raw);
//! ```

mod compression;
mod decoder;
mod decompress;
mod foreign;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(any(feature = "gzip", feature = "xz", feature = "bzip2", feature = "lz4"))]
#[cfg_attr(
    not(any(feature = "gzip", feature = "bzip2", feature = "lz4")),
    allow(dead_code, reason = "xz needs the padding alone")
)]
mod members;
#[cfg_attr(
    not(any(feature = "xz", feature = "zstd")),
    allow(dead_code, reason = "only these two take memory that a file asks for")
)]
mod memory;
mod pool;
mod sparse;
#[cfg(feature = "xz")]
mod xz;
#[cfg(feature = "zstd")]
mod zstandard;

pub use compression::{Compression, HEADER};
pub use decompress::{decompress, fill};
pub use foreign::{FOREIGN_SIGNATURE, Foreign, foreign};
pub use memory::Memory;
pub use pool::{BUFFER, Buffer, Pool};
