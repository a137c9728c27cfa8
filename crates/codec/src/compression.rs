//! The compressions of images, and the signatures by which they are detected.

use std::fmt;

use jumpstarter_driver_core::image::Encoding;

use crate::sparse;

/// The compression of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// None, or one that this crate does not know.
    Raw,
    /// gzip (RFC 1952), any number of members; zeros after the last are padding, as for `gzip -d`.
    Gzip,
    /// xz (<https://tukaani.org/xz/xz-file-format.txt>), any number of streams.
    Xz,
    /// bzip2, any number of streams; zeros after the last are padding, as for `bzip2 -d`.
    Bzip2,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
    /// lz4 (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>), any number of frames;
    /// not its legacy format, whose end cannot be distinguished from a break.
    Lz4,
    /// lzma, as `xz --format=lzma` writes it: one stream, which has no checksum.
    Lzma,
    /// lzip (<https://www.nongnu.org/lzip/manual/lzip_manual.html#File-format>), any number of
    /// members.
    Lzip,
    /// An Android sparse image, version 1.
    AndroidSparse,
}

/// The number of bytes that [`Compression::detect`] and [`Compression::least_length`] need.
pub const HEADER: usize = 28;

impl Compression {
    /// Detects the compression from the first bytes of a file.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            // A frame to be skipped (RFC 8878, section 3.1.2) may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'L', b'Z', b'I', b'P', 0 | 1, ..] => Self::Lzip,
            _ if start.starts_with(sparse::MAGIC) => Self::AndroidSparse,
            _ if is_lzma(start) => Self::Lzma,
            _ => Encoding::of_signature(start).map_or(Self::Raw, Self::from),
        }
    }

    /// The length in bytes of the decompressed image, if the first bytes of the file hold it:
    /// that of the first frame, so that more may follow. gzip, xz, bzip2 and lzip hold none.
    ///
    /// ```
    /// # use jumpstarter_codec::Compression;
    /// let header = b"\x28\xb5\x2f\xfd\xa4\x00\x00\x00\x10";
    /// assert_eq!(Compression::Zstd.least_length(header), Some(256 << 20));
    /// ```
    pub fn least_length(self, start: &[u8]) -> Option<u64> {
        if Self::detect(start) != self {
            return None;
        }
        match self {
            Self::Zstd => zstd_length(start),
            // The frame's flags, its block size, and the length if a flag says so.
            Self::Lz4 if start.get(4)? & 8 != 0 => number(start, 6, 8),
            Self::Lzma => number(start, 5, 8).filter(|length| *length != u64::MAX),
            Self::AndroidSparse => number(start, 12, 4)?.checked_mul(number(start, 16, 4)?),
            _ => None,
        }
    }
}

/// The length in the header of a frame (RFC 8878, section 3.1.1.1).
fn zstd_length(start: &[u8]) -> Option<u64> {
    let start = start.strip_prefix(b"\x28\xb5\x2f\xfd")?;
    let descriptor = *start.first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 1 + usize::from(!is_single_segment) + dictionary;
    match descriptor >> 6 {
        0 if is_single_segment => number(start, at, 1),
        0 => None,
        1 => number(start, at, 2).map(|length| length + 256),
        2 => number(start, at, 4),
        _ => number(start, at, 8),
    }
}

/// The little-endian number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
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
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Lzip => "lzip",
            Self::AndroidSparse => "Android sparse",
        })
    }
}

/// lzma has no signature: properties, a dictionary whose size is 2^n or 2^n + 2^(n-1), a size that
/// is unknown or likely, and the range coder's first byte, which is 0. Of the properties only those
/// that tools write count, since the vectors of a microcontroller may look like others.
fn is_lzma(start: &[u8]) -> bool {
    let Some((header, [0, ..])) = start.split_first_chunk::<13>() else { return false };
    let [properties, d0, d1, d2, d3, size @ ..] = *header;
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let is_round = match dictionary.count_ones() {
        1 => true,
        2 => dictionary.trailing_zeros() + dictionary.leading_zeros() == 30,
        _ => dictionary == u32::MAX,
    };
    let size = u64::from_le_bytes(size);
    let is_likely = size == u64::MAX || (1..1 << 38).contains(&size);
    // The usual ones, and those of OpenWrt's kernels.
    matches!(properties, 0x5d | 0x6d) && dictionary >= 4096 && is_round && is_likely
}
