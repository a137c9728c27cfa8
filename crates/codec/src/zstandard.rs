//! Zstandard, with memory that is requested first: each frame's header says how much it needs.
//! Handwritten because the crate's reader takes the memory without asking.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::memory::Share;

/// The largest window that zstd knows, as a power of two.
const WINDOW_LOG: u32 = 31;
/// The longest header of a frame.
const HEADER: usize = 18;

/// All frames of a file.
pub(crate) struct Zstandard<R> {
    input: R,
    /// The beginning of a frame, taken from the input before the decoder gets it.
    header: Vec<u8>,
    decoder: Decoder<'static>,
    share: Share,
    is_inside: bool,
}

impl<R: BufRead> Zstandard<R> {
    pub(crate) fn new(input: R, share: Share) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self { input, header: Vec::new(), decoder, share, is_inside: false })
    }

    /// Looks at the header of the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while self.header.len() < HEADER {
            let more = self.input.fill_buf()?;
            if more.is_empty() {
                break;
            }
            let count = more.len().min(HEADER - self.header.len());
            self.header.extend_from_slice(&more[..count]);
            self.input.consume(count);
        }
        if self.header.is_empty() {
            return Ok(false);
        }
        if let Some(window) = window(&self.header) {
            self.share.grow_to(window)?;
        }
        self.decoder.reinit()?;
        self.is_inside = true;
        Ok(true)
    }
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while !target.is_empty() && (self.is_inside || self.begin()?) {
            let is_header = !self.header.is_empty();
            let input = if is_header { &self.header } else { self.input.fill_buf()? };
            let is_last = input.is_empty();
            let (mut given, mut taken) = (InBuffer::around(input), OutBuffer::around(&mut *target));
            let left = self.decoder.run(&mut given, &mut taken)?;
            let (read, written) = (given.pos(), taken.pos());
            match is_header {
                true => drop(self.header.drain(..read)),
                false => self.input.consume(read),
            }
            self.is_inside = left > 0;
            if written > 0 {
                return Ok(written);
            }
            if is_last && self.is_inside {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early"));
            }
        }
        Ok(0)
    }
}

/// How far back a frame refers (RFC 8878, section 3.1.1.1). `None` for what is no such frame.
fn window(header: &[u8]) -> Option<u64> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (descriptor, rest) = rest.split_first()?;
    if *magic != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let (exponent, mantissa) = (rest.first()? >> 3, rest.first()? & 7);
        let base = 1_u64 << (10 + exponent);
        return Some(base + base / 8 * u64::from(mantissa));
    }
    let id_length = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(id_length..)?;
    let number = |length: usize| {
        let bytes = size.get(..length)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    match descriptor >> 6 {
        0 => number(1),
        1 => number(2).map(|size| size + 256),
        2 => number(4),
        _ => number(8),
    }
}
