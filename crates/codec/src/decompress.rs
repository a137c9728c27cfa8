//! Decompressing to the end, piece by piece.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use jumpstarter_driver_core::{Error, ErrorKind, Result};

use crate::{BUFFER, Compression, Pool};

/// Decompresses `input` to its end, and hands each piece of [`BUFFER`] bytes (the last one may be shorter) to `give`.
///
/// It blocks: run it on a thread of its own. It stops early, without an error, once `give` says that nobody wants more.
///
/// # Errors
/// [`ErrorKind::DataLoss`]: the data is damaged, ends early or is followed by garbage, or `input` failed; whoever gave
/// the input knows which. [`ErrorKind::ResourceExhausted`]: there is no memory for the decoder.
pub fn decompress(
    compression: Compression,
    input: impl BufRead,
    mut give: impl FnMut(Bytes) -> bool,
) -> Result<()> {
    let pool = Pool::default();
    let mut done: u64 = 0;
    let copy = || {
        let mut decoder = compression.decoder(input)?;
        loop {
            let mut buffer = pool.take();
            let length = fill(&mut *decoder, buffer.space())?;
            done += length as u64;
            if length == 0 || !give(buffer.freeze(length)) {
                return Ok(());
            }
        }
    };
    copy().map_err(|error| damaged(compression, done, error))
}

/// Reads until `target` is full or the image ends, so that pieces stay aligned; returns the bytes read.
///
/// # Errors
/// What `input` fails with, but for interruptions, after which it reads on.
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

fn damaged(compression: Compression, done: u64, error: io::Error) -> Error {
    let about = done / BUFFER as u64 * BUFFER as u64;
    let message = match error.kind() {
        io::ErrorKind::OutOfMemory => {
            let message = format!("no memory to decompress {compression}");
            return Error::new(ErrorKind::ResourceExhausted, message).with_source(error);
        }
        io::ErrorKind::UnexpectedEof => "the compressed data ends early",
        _ => "the compressed data is damaged",
    };
    Error::data_loss(format!("{message} ({compression}, after {about} decompressed bytes)"))
        .with_source(error)
        .with_hint("compare the file's size and digest with its publisher's and transfer it again")
}
