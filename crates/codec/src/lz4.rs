//! lz4 frames: handwritten because the crate's reader accepts a file that ends between two blocks.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder;

use crate::members::Member;

/// A decoder of one frame. It holds at most two blocks of 4 MiB and a window of 64 KiB.
pub(crate) struct Lz4<R: BufRead>(FrameDecoder<Watched<R>>);

impl<R: BufRead> Lz4<R> {
    pub(crate) fn new(input: R) -> Self {
        Self(FrameDecoder::new(Watched { input, ended: false }))
    }
}

impl<R: BufRead> Member for Lz4<R> {
    type Input = R;

    fn new(input: R) -> Self {
        Self::new(input)
    }

    fn into_input(self) -> R {
        self.0.into_inner().input
    }
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(target)?;
        // The end mark and the checksum come before the input's end is met.
        if count == 0 && !target.is_empty() && self.0.get_ref().ended {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the frame has no end mark"));
        }
        Ok(count)
    }
}

/// The input, and whether a read has met its end.
struct Watched<R> {
    input: R,
    ended: bool,
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(target)?;
        self.ended |= count == 0 && !target.is_empty();
        Ok(count)
    }
}
