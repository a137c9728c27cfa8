//! Decompresses an image to its end, in pieces.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use jumpstarter_driver_core::{Error, Result};

use crate::memory::TooMuch;
use crate::{BUFFER, Compression, Memory, Pool};

/// Decompresses the pieces that `next` returns until `None`, and passes each piece of [`BUFFER`]
/// bytes (the last one may be shorter) to `give`. `hint` is the hint for damaged data.
///
/// A decoder takes at most [`Memory::from_env`].
///
/// It blocks: run it on a thread that may. It stops early, without an error, once `give` returns
/// false.
///
/// # Errors
/// The errors of `next`, unchanged. `DataLoss` if the data is damaged, ends early or is followed by
/// garbage. `Unimplemented` if the crate was built without this compression. `ResourceExhausted` if
/// there is no memory for the decoder, or it needs more than its limit.
pub fn decompress(
    compression: Compression,
    hint: &str,
    next: impl FnMut() -> Result<Option<Bytes>>,
    mut give: impl FnMut(Bytes) -> bool,
) -> Result<()> {
    let memory = Memory::from_env()?;
    let mut pieces = Pieces { next, current: Bytes::new(), failure: None };
    let pool = Pool::default();
    let mut done: u64 = 0;
    let mut copy = || {
        let mut decoder = compression.decoder(&mut pieces, memory)?;
        loop {
            let mut buffer = pool.take();
            let length = fill(&mut *decoder, buffer.space())?;
            done += length as u64;
            if length == 0 || !give(buffer.freeze(length)) {
                return Ok(());
            }
        }
    };
    let copied = copy();
    match pieces.failure {
        Some(failure) => Err(failure),
        None => copied.map_err(|error| damaged(compression, done, error, hint)),
    }
}

/// The compressed pieces, as a decoder reads them.
struct Pieces<F> {
    next: F,
    current: Bytes,
    /// Why reading ended early. Decoders may not pass an error on unchanged.
    failure: Option<Error>,
}

impl<F: FnMut() -> Result<Option<Bytes>>> BufRead for Pieces<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && self.failure.is_none() {
            match (self.next)() {
                Ok(Some(piece)) => self.current = piece,
                Ok(None) => break,
                Err(error) => self.failure = Some(error),
            }
        }
        match &self.failure {
            Some(_) => Err(io::Error::other("the source failed")),
            None => Ok(&self.current),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl<F: FnMut() -> Result<Option<Bytes>>> Read for Pieces<F> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(target.len());
        target[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Reads until `target` is full or the image ends, so that pieces stay aligned; returns the bytes
/// read.
///
/// # Errors
/// The errors of `input`, except interruptions, which are retried.
pub fn fill(input: &mut dyn Read, target: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < target.len() {
        match input.read(&mut target[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn damaged(compression: Compression, done: u64, error: io::Error, hint: &str) -> Error {
    let error = match error.downcast::<TooMuch>() {
        Ok(too_much) => return too_much.into_error(),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::Unsupported {
        return Error::unimplemented(error.to_string())
            .with_hint("decompress it first, or use a program that was built with it");
    }
    let about = done / BUFFER as u64 * BUFFER as u64;
    let message = match error.kind() {
        io::ErrorKind::OutOfMemory => {
            let message = format!("no memory to decompress {compression}");
            return Error::resource_exhausted(message).with_source(error);
        }
        io::ErrorKind::UnexpectedEof => "the compressed data ends early",
        _ => "the compressed data is damaged",
    };
    Error::data_loss(format!("{message} ({compression}, after {about} decompressed bytes)"))
        .with_source(error)
        .with_hint(hint)
}
