//! The compressions of images: signatures, and decoders that accept whole files only.

use std::fmt;
use std::io::{self, BufRead, Read};

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
    /// bzip2, any number of streams.
    Bzip2,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

/// Bytes that [`Compression::of`] looks at.
pub const SIGNATURE: usize = 10;

/// The largest zstd window that is accepted, as a power of two (`zstd --ultra --long=31`): 2 GiB, taken on demand.
const ZSTD_WINDOW_LOG: u32 = 31;

impl Compression {
    /// Tells the compression by the first bytes of a file.
    pub fn of(start: &[u8]) -> Self {
        match start {
            // A frame to be skipped (RFC 8878, section 3.1.2) may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Encoding::of_signature(start).map_or(Self::Raw, Self::from),
        }
    }

    /// What `input` holds, decompressed. Damage, an early end and trailing garbage are errors.
    ///
    /// # Errors
    /// `OutOfMemory` where the decoder cannot be made. What is wrong with the data, reading says.
    pub fn decoder<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Raw => Box::new(input),
            Self::Gzip => Box::new(GzipMembers { member: Some(flate2::bufread::GzDecoder::new(input)) }),
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
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

/// One gzip member after the other. `flate2`'s own takes zero padding for a damaged header.
struct GzipMembers<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(target)?;
            if count > 0 || target.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.member.take().map(flate2::bufread::GzDecoder::into_inner) else {
                break;
            };
            match input.fill_buf()?.first() {
                None => {}
                Some(0) => only_zeros(input)?,
                Some(_) => self.member = Some(flate2::bufread::GzDecoder::new(input)),
            }
        }
        Ok(0)
    }
}

fn only_zeros(mut input: impl BufRead) -> io::Result<()> {
    loop {
        let rest = input.fill_buf()?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "garbage follows the last member"));
        }
        let count = rest.len();
        input.consume(count);
    }
}
