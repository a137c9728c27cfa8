//! The decoding thread: compressed items in, plain ones out.

use crate::codec::Compression;
use crate::item::{Item, ItemReader};
use crate::pool::{BUFFER, Pool};
use jumpstarter_driver_core::{Error, Result};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Decompresses until the end, a failure, or until nobody receives any more.
pub(crate) fn decode(mut input: ItemReader, compression: Compression, output: &mpsc::Sender<Item>) {
    let last = match copy(&mut input, compression, output) {
        Ok(()) => Item::End,
        Err(error) => Item::Failed(error),
    };
    // An error here is the receiver's leaving; it knows why.
    drop(output.blocking_send(last));
}

fn copy(input: &mut ItemReader, compression: Compression, output: &mpsc::Sender<Item>) -> Result<()> {
    let pool = Pool::default();
    let mut done: u64 = 0;
    let outcome = (|| {
        let mut decoder = compression.decoder(&mut *input)?;
        loop {
            let mut buffer = pool.take();
            let length = fill(&mut *decoder, buffer.space())?;
            if length == 0 {
                return Ok(());
            }
            done += length as u64;
            if output.blocking_send(Item::Data(buffer.freeze(length))).is_err() {
                return Ok(());
            }
        }
    })();
    match (outcome, input.take_failure()) {
        (_, Some(failure)) => Err(failure),
        (Ok(()), None) => Ok(()),
        (Err(error), None) => Err(damaged(compression, done, error)),
    }
}

/// Reads until `target` is full or the image ends, so that pieces stay aligned.
pub(crate) fn fill(input: &mut dyn Read, target: &mut [u8]) -> io::Result<usize> {
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
            return Error::new(
                jumpstarter_driver_core::ErrorKind::ResourceExhausted,
                format!("no memory to decompress {compression}"),
            )
            .with_source(error);
        }
        io::ErrorKind::UnexpectedEof => "the compressed data ends early",
        _ => "the compressed data is damaged",
    };
    Error::data_loss(format!("{message} ({compression}, after {about} decompressed bytes)"))
        .with_source(error)
        .with_hint("compare the file's size and digest with its publisher's and transfer it again")
}
