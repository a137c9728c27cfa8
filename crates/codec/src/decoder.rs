//! From a compression to its decoder.

use std::io::{self, BufRead, Read};

use crate::compression::Compression;
use crate::members::Members;
use crate::memory::Memory;
use crate::xz::Xz;
use crate::zstandard::Zstandard;

impl Compression {
    /// What `input` holds, decompressed. Damage, an early end and trailing garbage are errors, and
    /// so is a file that needs more than `memory`: it is refused before the memory is taken.
    ///
    /// # Errors
    /// `OutOfMemory` where the decoder cannot be made. What is wrong with the data, reading says.
    pub fn decoder<'a>(
        self,
        input: impl BufRead + 'a,
        memory: Memory,
    ) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Raw => Box::new(input),
            Self::Gzip => Box::new(Members::new(flate2::bufread::GzDecoder::new(input))),
            Self::Xz => Box::new(Xz::new(input, memory.share(self))?),
            Self::Bzip2 => Box::new(Members::new(bzip2::bufread::BzDecoder::new(input))),
            Self::Zstd => Box::new(Zstandard::new(input, memory.share(self))?),
        })
    }
}
