//! The encodings in which images are stored and travel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::suggest;

/// The compression of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `.gz`, by RFC 1952.
    Gzip,
    /// `.xz`, the format of XZ Utils.
    Xz,
    /// `.bz2`.
    Bz2,
    /// Zstandard, `.zst`.
    Zstd,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Xz, Self::Bz2, Self::Zstd];

    /// Its name on the wire and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bz2 => "bz2",
            Self::Zstd => "zstd",
        }
    }

    /// Detects the encoding from the first bytes of a file; ten are enough.
    pub fn of_signature(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // Checks the level and the start of a block or the end: three letters alone are too
            // few.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Some(Self::Bz2)
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == text).ok_or_else(|| {
            Error::invalid_argument(format!("`{text}` is not an encoding of images"))
                .with_hint(suggest::hint(text, Self::ALL.iter().map(|encoding| encoding.name())))
        })
    }
}
