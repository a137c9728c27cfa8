//! Makes the decoder of a compression, if this program was built with it.

use std::io::{self, BufRead, Read};

use crate::compression::Compression;
#[cfg(feature = "lz4")]
use crate::lz4::Lz4;
#[cfg(any(feature = "gzip", feature = "bzip2", feature = "lz4"))]
use crate::members::Members;
use crate::memory::Memory;
use crate::sparse::Sparse;
#[cfg(feature = "xz")]
use crate::xz::{Format, Xz};
#[cfg(feature = "zstd")]
use crate::zstandard::Zstandard;

impl Compression {
    /// Decompresses `input`. Damage, an early end and trailing garbage are errors, and so is a file
    /// that needs more than `memory`: it is refused before the memory is taken.
    ///
    /// # Errors
    /// `OutOfMemory` if the decoder cannot be made; `Unsupported` if the crate was built without
    /// the compression's feature. Reading reports errors in the data.
    pub fn decoder<'a>(
        self,
        input: impl BufRead + 'a,
        memory: Memory,
    ) -> io::Result<Box<dyn Read + 'a>> {
        match self {
            Self::Raw => Ok(Box::new(input)),
            #[cfg(feature = "gzip")]
            Self::Gzip => Ok(Box::new(Members::new(flate2::bufread::GzDecoder::new(input)))),
            #[cfg(feature = "xz")]
            Self::Xz => Ok(Box::new(Xz::new(Format::Xz, input, memory.share(self))?)),
            #[cfg(feature = "xz")]
            Self::Lzma => Ok(Box::new(Xz::new(Format::Lzma, input, memory.share(self))?)),
            #[cfg(feature = "xz")]
            Self::Lzip => Ok(Box::new(Xz::new(Format::Lzip, input, memory.share(self))?)),
            #[cfg(feature = "lz4")]
            Self::Lz4 => Ok(Box::new(Members::new(Lz4::new(input)))),
            Self::AndroidSparse => Ok(Box::new(Sparse::new(input))),
            #[cfg(feature = "bzip2")]
            Self::Bzip2 => Ok(Box::new(Members::new(bzip2::bufread::BzDecoder::new(input)))),
            #[cfg(feature = "zstd")]
            Self::Zstd => Ok(Box::new(Zstandard::new(input, memory.share(self))?)),
            #[cfg(not(all(
                feature = "gzip",
                feature = "xz",
                feature = "bzip2",
                feature = "zstd",
                feature = "lz4"
            )))]
            missing => {
                drop((input, memory));
                let message = format!("this program was built without {missing}");
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }
}
