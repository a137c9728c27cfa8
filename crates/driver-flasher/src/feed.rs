//! The reading stage: a local file on a thread, any other source in the caller's future.

use crate::item::Item;
use crate::thread::check;
use bytes::Bytes;
use jumpstarter_codec::{BUFFER, Pool, fill};
use jumpstarter_driver_core::image::Meter;
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};
use jumpstarter_files::Turn;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// The destination of the delivered items, with a count.
pub(crate) struct Feed {
    pub(crate) items: mpsc::Sender<Item>,
    pub(crate) digest: Option<mpsc::Sender<Item>>,
    pub(crate) meter: Meter,
}

/// The next stage has ended, and reports why.
struct Gone;

impl Feed {
    /// Delivers a regular file, without reading its holes, nor what is not `wanted`, if that is
    /// given: zeros take the place.
    pub(crate) fn file(
        mut self,
        file: &File,
        length: u64,
        wanted: Option<Vec<Range<u64>>>,
        path: &Path,
        turn: &Turn,
    ) {
        let wanted = wanted.as_deref();
        let last = match self.copy_file(file, length, wanted, path, turn) {
            Ok(Ok(())) => Item::End,
            Ok(Err(Gone)) => return,
            Err(error) => Item::Failed(error),
        };
        drop(self.give(last));
    }

    fn copy_file(
        &mut self,
        file: &File,
        length: u64,
        wanted: Option<&[Range<u64>]>,
        path: &Path,
        turn: &Turn,
    ) -> Result<Result<(), Gone>> {
        let doing = || format!("reading {}", path.display());
        let pool = Pool::default();
        let mut offset = 0;
        while offset < length {
            let (mut data, mut end) = next_data(file, offset, length)
                .map_err(std::io::Error::from)
                .with_context(doing)?;
            if let Some(wanted) = wanted {
                let next = wanted.partition_point(|range| range.end <= data);
                let next = wanted.get(next).cloned().unwrap_or(length..length);
                data = data.max(next.start);
                end = end.min(next.end).max(data);
            }
            if data > offset && self.give(Item::Zeros(data - offset)).is_err() {
                return Ok(Err(Gone));
            }
            offset = data;
            while offset < end {
                check(turn)?;
                let mut buffer = pool.take();
                let wanted = (end - offset).min(BUFFER as u64) as usize;
                let mut at = At { file, offset };
                let count = fill(&mut at, &mut buffer.space()[..wanted]).with_context(doing)?;
                if count < wanted {
                    return Err(Error::data_loss(format!(
                        "{}: it became shorter meanwhile",
                        doing()
                    )));
                }
                offset += count as u64;
                if self.give(Item::Data(buffer.freeze(count))).is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
        Ok(Ok(()))
    }

    fn give(&mut self, item: Item) -> Result<(), Gone> {
        self.count(&item);
        if let (Some(digest), Some(copy)) = (&self.digest, share(&item)) {
            digest.blocking_send(copy).map_err(|_| Gone)?;
        }
        self.items.blocking_send(item).map_err(|_| Gone)
    }

    /// Delivers any source; `stall` bounds the wait for its next bytes.
    pub(crate) async fn stream(mut self, source: ImageSource, stall: Option<Duration>) {
        let last = match self.copy_stream(source, stall).await {
            Ok(Ok(())) => Item::End,
            Ok(Err(Gone)) => return,
            Err(error) => Item::Failed(error),
        };
        drop(self.send(last).await);
    }

    async fn copy_stream(
        &mut self,
        source: ImageSource,
        stall: Option<Duration>,
    ) -> Result<Result<(), Gone>> {
        let mut stream = within(stall, source.open()).await?;
        loop {
            let Some(mut bytes) =
                within(stall, stream.receive()).await.context("reading the image")?
            else {
                return Ok(Ok(()));
            };
            while !bytes.is_empty() {
                let piece: Bytes = bytes.split_to(bytes.len().min(BUFFER));
                if self.send(Item::Data(piece)).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
    }

    async fn send(&mut self, item: Item) -> Result<(), Gone> {
        self.count(&item);
        if let (Some(digest), Some(copy)) = (&self.digest, share(&item)) {
            digest.send(copy).await.map_err(|_| Gone)?;
        }
        self.items.send(item).await.map_err(|_| Gone)
    }

    fn count(&mut self, item: &Item) {
        match item {
            Item::Data(bytes) => self.meter.add(bytes.len() as u64),
            Item::Zeros(count) => self.meter.add(*count),
            Item::End | Item::Failed(_) => self.meter.finish(),
        }
    }
}

/// Waits for the source, at most `stall`.
async fn within<T>(stall: Option<Duration>, next: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(stall) = stall else { return next.await };
    tokio::time::timeout(stall, next).await.unwrap_or_else(|_| {
        Err(Error::deadline_exceeded(format!("the source delivered nothing for {stall:?}")))
    })
}

/// The same item for the digest; a failure is not shared, the queue just closes.
fn share(item: &Item) -> Option<Item> {
    match item {
        Item::Data(bytes) => Some(Item::Data(bytes.clone())),
        Item::Zeros(count) => Some(Item::Zeros(*count)),
        Item::End => Some(Item::End),
        Item::Failed(_) => None,
    }
}

/// The begin and the end of the next data at or after `offset`; both are `length` if there is none.
fn next_data(file: &File, offset: u64, length: u64) -> rustix::io::Result<(u64, u64)> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => {
            let end = seek(file, SeekFrom::Hole(data)).unwrap_or(length);
            Ok((data.min(length), end.min(length)))
        }
        // No data after it.
        Err(Errno::NXIO) => Ok((length, length)),
        // A file system that does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok((offset, length)),
        Err(error) => Err(error),
    }
}

/// Reads a file from an offset, whatever its cursor.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl std::io::Read for At<'_> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(target, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A source that is a regular file of this machine, opened.
pub(crate) fn open_local(path: PathBuf) -> Result<Option<(File, u64, PathBuf)>> {
    let doing = || format!("opening the image {}", path.display());
    let metadata = std::fs::metadata(&path).with_context(doing)?;
    if !metadata.is_file() {
        // A pipe or a device: opening it may block, so it is left to the stream.
        return Ok(None);
    }
    let file = File::open(&path).with_context(doing)?;
    let length = file.metadata().with_context(doing)?.len();
    Ok(Some((file, length, path)))
}
