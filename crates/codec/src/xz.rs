//! xz, lzma and lzip, with memory that is requested first: handwritten because the crate's reader
//! ends at its limit instead of continuing with a larger one.

use std::io::{self, BufRead, Read};

use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream};

use crate::members::only_zeros;
use crate::memory::Share;

/// The formats that the library decodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Xz,
    Lzma,
    Lzip,
}

/// All streams of a file, and the zeros that may be between and behind them.
pub(crate) struct Xz<R> {
    format: Format,
    input: R,
    stream: Stream,
    share: Share,
    ended: bool,
}

impl<R: BufRead> Xz<R> {
    pub(crate) fn new(format: Format, input: R, share: Share) -> io::Result<Self> {
        // So little that each need for more is seen.
        let stream = match format {
            Format::Xz => Stream::new_stream_decoder(1, CONCATENATED)?,
            Format::Lzma => Stream::new_lzma_decoder(1)?,
            Format::Lzip => Stream::new_lzip_decoder(1, CONCATENATED)?,
        };
        Ok(Self { format, input, stream, share, ended: false })
    }

    /// Asks for what the decoder needs, and gives it. It goes on from where it was then.
    fn grow(&mut self) -> io::Result<()> {
        let mut needed = needed(&mut self.stream)?;
        self.share.grow_to(needed)?;
        // At the limit itself it goes on; less is refused.
        needed = needed.max(1);
        Ok(self.stream.set_memlimit(needed)?)
    }
}

/// The least limit with which the decoder goes on.
fn needed(stream: &mut Stream) -> io::Result<u64> {
    let (mut low, mut high) = (0_u64, u64::MAX / 2);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match stream.set_memlimit(middle) {
            Ok(()) => high = middle,
            Err(Error::MemLimit) => low = middle,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(high)
}

impl<R: BufRead> Read for Xz<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !target.is_empty() {
            let input = self.input.fill_buf()?;
            let is_last = input.is_empty();
            let action = if is_last { Action::Finish } else { Action::Run };
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.process(input, target, action);
            let (read, written) =
                (self.stream.total_in() - read, self.stream.total_out() - written);
            self.input.consume(read as usize);
            match status {
                Err(Error::MemLimit) => self.grow()?,
                Err(error) => return Err(error.into()),
                Ok(status) => {
                    self.ended = status == Status::StreamEnd;
                    if self.ended && self.format != Format::Xz {
                        // The library stops at what follows, whatever that is.
                        only_zeros(&mut self.input)?;
                    }
                    if written == 0 && is_last && !self.ended {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the file ends early",
                        ));
                    }
                    if written == 0 && read == 0 && !is_last {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the decoder takes nothing more",
                        ));
                    }
                }
            }
            // Also with a need for more memory: what lies before it was decoded.
            if written > 0 {
                return Ok(written as usize);
            }
        }
        Ok(0)
    }
}
