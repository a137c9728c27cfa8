//! Reads an image back: a file or block device, unchanged, into a sink.

use crate::thread::spawn;
use bytes::Bytes;
use jumpstarter_codec::{BUFFER, Pool, fill};
use jumpstarter_driver_core::{Error, ImageSink, Result, ResultExt};
use std::fs::File;
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Reads all of `path` into `sink` and finishes it; returns the bytes read.
///
/// Cancelling drops the sink unfinished, which keeps its old file, if it is one.
///
/// # Errors
/// [`NotFound`](jumpstarter_driver_core::ErrorKind::NotFound) for a missing file.
/// [`InvalidArgument`](jumpstarter_driver_core::ErrorKind::InvalidArgument) for a folder. Otherwise
/// the errors of the disk or the sink.
pub async fn read_image(path: &Path, sink: ImageSink) -> Result<u64> {
    run(path, sink).await.with_context(|| format!("reading the image {}", path.display()))
}

async fn run(path: &Path, mut sink: ImageSink) -> Result<u64> {
    let (chunks, mut queue) = mpsc::channel(2);
    let (length, opened) = oneshot::channel();
    let path = path.to_owned();
    // The file system may hang at the first call already.
    spawn("image-read", move || match open(&path) {
        Ok((file, announced)) => {
            if length.send(Ok(announced)).is_ok() {
                read(file, &chunks);
            }
        }
        // The caller may have been dropped.
        Err(error) => drop(length.send(Err(error))),
    })?;
    let panicked = || Error::internal("the reading thread panicked");
    sink.announce(opened.await.map_err(|_| panicked())??);
    sink.open().await?;
    let mut count = 0;
    while let Some(chunk) = queue.recv().await {
        let Some(bytes) = chunk? else {
            sink.finish().await?;
            return Ok(count);
        };
        count += bytes.len() as u64;
        sink.write(bytes).await?;
    }
    Err(panicked())
}

/// The file, and how long it is, if that is known.
fn open(path: &Path) -> Result<(File, Option<u64>)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(Error::invalid_argument("it is a folder"));
    }
    Ok((File::open(path)?, metadata.is_file().then_some(metadata.len())))
}

/// Sends the file's chunks and then `None`; ends when nobody receives.
fn read(mut file: File, chunks: &mpsc::Sender<std::io::Result<Option<Bytes>>>) {
    let pool = Pool::default();
    loop {
        let mut buffer = pool.take();
        let chunk = fill(&mut file, &mut buffer.space()[..BUFFER])
            .map(|length| (length > 0).then(|| buffer.freeze(length)));
        let go_on = matches!(chunk, Ok(Some(_)));
        if chunks.blocking_send(chunk).is_err() || !go_on {
            return;
        }
    }
}
