//! The compressions of images, and the signatures by which they are detected.

use std::fmt;

use jumpstarter_driver_core::image::Encoding;

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all (or in a way that this crate does not know).
    Raw,
    /// gzip (RFC 1952), any number of members; zeros after the last are padding, as for `gzip -d`.
    Gzip,
    /// xz (<https://tukaani.org/xz/xz-file-format.txt>), any number of streams.
    Xz,
    /// bzip2, any number of streams; zeros after the last are padding, as for `bzip2 -d`.
    Bzip2,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

/// Bytes that [`Compression::detect`] looks at.
pub const SIGNATURE: usize = 10;

impl Compression {
    /// Tells the compression by the first bytes of a file.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            // A frame to be skipped (RFC 8878, section 3.1.2) may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Encoding::of_signature(start).map_or(Self::Raw, Self::from),
        }
    }
}

impl From<Encoding> for Compression {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip,
            Encoding::Xz => Self::Xz,
            Encoding::Bz2 => Self::Bzip2,
            Encoding::Zstd => Self::Zstd,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
        })
    }
}
