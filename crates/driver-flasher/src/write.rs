//! Writes an image: connects the stages.

use crate::block_map::BlockMap;
use crate::decode::decode;
use crate::digest::sha256;
use crate::feed::{Feed, open_local};
use crate::foreign;
use crate::item::{Item, ItemReader};
use crate::mapped::MappedMedium;
use crate::medium::ImageMedium;
use crate::options::{WriteOptions, WriteReport};
use crate::output::Output;
use crate::thread::{check, on_thread, spawn};
use jumpstarter_codec::{Compression, HEADER};
use jumpstarter_driver_core::image::{LateLength, Meter, Wishes};
use jumpstarter_driver_core::prelude::ByteSize;
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};
use jumpstarter_files::Turn;
use std::ops::Range;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// The items that wait between two stages: enough to even out their pace, few enough to stay in the
/// cache.
const QUEUE: usize = 4;

/// Writes the image of `source` to `destination`, decompressed, completely or not at all.
///
/// A file is replaced (its mode is kept; a new one gets 0644; a symbolic link is followed) once
/// everything is written, checked and synced. Until then, and after a failure or a cancellation at
/// any moment, the old file is untouched; the temporary sibling is removed shortly after, and the
/// next write to the same destination removes that of a killed process. Blocks of zeros become
/// holes. A *block device* is written in place instead: the old image is lost, and a wrong digest
/// is noticed too late. It is opened before the source, and refused while anything else uses it.
///
/// The source's observers count the bytes that it delivered; its digest wishes are about those
/// bytes, too, that is the file as it was downloaded.
///
/// # Errors
/// - [`DataLoss`](jumpstarter_driver_core::ErrorKind::DataLoss): the source is empty or not as long
///   as announced, the compressed data is damaged, ends early or is followed by garbage, or the
///   SHA-256 differs from the expected one.
/// - [`ResourceExhausted`](jumpstarter_driver_core::ErrorKind::ResourceExhausted): the disk is
///   full, or the image larger than [`limit_bytes`](WriteOptions::limit_bytes).
/// - [`DeadlineExceeded`](jumpstarter_driver_core::ErrorKind::DeadlineExceeded): the source
///   delivered nothing for [`stall_timeout`](WriteOptions::stall_timeout).
/// - [`InvalidArgument`](jumpstarter_driver_core::ErrorKind::InvalidArgument): the destination is a
///   folder or something else that cannot hold an image.
/// - The errors of the source and the disk.
pub async fn write_image(
    source: ImageSource,
    destination: &Path,
    options: WriteOptions,
) -> Result<WriteReport> {
    let doing = format!("writing {} to {}", source.name(), destination.display());
    let mut opening = options.clone();
    opening.verify |= source.wishes().needs_verification();
    let path = destination.to_owned();
    let medium =
        on_thread("flash-open", move || Output::open(path, &opening)).await?.context(&doing)?;
    let torn = medium.torn();
    run(source, medium, options).await.map_err(|error| match torn.get() {
        true => {
            let hint = error.hint().unwrap_or("flash it again").to_owned();
            error.context(format!("{doing}, which is torn now")).with_hint(hint)
        }
        false => error.context(doing),
    })
}

/// Writes the image of `source` to a driver's medium, decompressed, like [`write_image`] to a file:
/// with the same limits, digests, progress and cancelling.
///
/// [`WriteOptions::inspect`] is for files; a medium has [its own inspection](ImageMedium::inspect).
///
/// # Errors
/// The errors of [`write_image`], and of the medium.
pub async fn write_image_to(
    source: ImageSource,
    medium: impl ImageMedium,
    options: WriteOptions,
) -> Result<WriteReport> {
    let doing = format!("writing {}", source.name());
    if source.wishes().needs_verification() {
        return Err(Error::unimplemented("this driver does not read images back")
            .context(doing)
            .with_hint("flash it without `--verify`"));
    }
    run(source, medium, options).await.context(doing)
}

async fn run(
    source: ImageSource,
    medium: impl ImageMedium,
    options: WriteOptions,
) -> Result<WriteReport> {
    match source.wishes().block_map().map(BlockMap::parse).transpose()? {
        Some(map) => {
            let ranges = map.ranges.iter().map(|range| range.bytes.clone());
            let mapped = Some((map.image_size, ranges.collect()));
            write(source, MappedMedium::new(medium, map), options, mapped).await
        }
        None => write(source, medium, options, None).await,
    }
}

/// The length of an image, and its parts that have to be read.
type Parts = (u64, Vec<Range<u64>>);

async fn write(
    mut source: ImageSource,
    medium: impl ImageMedium,
    options: WriteOptions,
    mapped: Option<Parts>,
) -> Result<WriteReport> {
    let started = Instant::now();
    let turn = Turn::default();
    let _cancel = turn.guard();
    let wishes = source.take_wishes();
    let name = source.name();
    source = source.fetched()?;
    let late_length = source.late_length();
    // Opening a file may take long, or for ever.
    let local = match source.local_path().map(Path::to_owned) {
        Some(path) => on_thread("flash-open", move || open_local(path)).await??,
        None => None,
    };
    let length = match (&local, source.local_path()) {
        (Some((_, length, _)), _) => Some(*length),
        // A pipe or a device.
        (None, Some(_)) => None,
        (None, None) => source.length().await,
    };

    let (items, queue) = mpsc::channel(QUEUE);
    let (digest, digest_thread) = if wishes.needs_sha256() {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Some(sender), Some(spawn("flash-digest", move || sha256(receiver))?))
    } else {
        (None, None)
    };
    let feed = Feed { items, digest, meter: Meter::new(wishes.observers(), length) };
    let stage = WriteStage {
        name,
        length,
        late_length,
        options: options.clone(),
        written: 0,
        turn: turn.clone(),
        wishes,
        digest_thread,
        started,
    };
    let (outcome, done) = oneshot::channel();
    spawn("flash-write", move || {
        // The caller may have been dropped; then the result is ignored.
        drop(outcome.send(stage.run(medium, ItemReader::new(queue))));
    })?;
    let reading = async {
        match local {
            Some((file, length, path)) => {
                // Only an image that is not compressed is as long as its block map says.
                let wanted = mapped.filter(|(size, _)| *size == length && feed.digest.is_none());
                let wanted = wanted.map(|(_, wanted)| wanted);
                let reading = move || feed.file(&file, length, wanted, &path, &turn);
                if let Err(error) = spawn("flash-read", reading) {
                    return error;
                }
            }
            None => feed.stream(source, options.stall_timeout).await,
        }
        // Read to its end: the writer has the result.
        std::future::pending().await
    };
    tokio::select! {
        written = done => written.unwrap_or_else(|_| Err(Error::internal("the writing thread panicked"))),
        error = reading => Err(error),
    }
}

/// The output of a decoding thread.
fn decoded(input: ItemReader, compression: Compression) -> Result<ItemReader> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    spawn("flash-decode", move || decode(input, compression, &sender))?;
    Ok(ItemReader::new(receiver))
}

/// The thread at the end of the pipeline, which knows the result.
struct WriteStage {
    /// The image's name in messages.
    name: String,
    /// The source's length, if it is known, compressed if it is.
    length: Option<u64>,
    /// The same of a download.
    late_length: LateLength,
    options: WriteOptions,
    /// Bytes of the image so far, holes included.
    written: u64,
    turn: Turn,
    wishes: Wishes,
    digest_thread: Option<JoinHandle<Option<String>>>,
    started: Instant,
}

impl WriteStage {
    fn run(mut self, mut medium: impl ImageMedium, mut input: ItemReader) -> Result<WriteReport> {
        let start = input.peek(HEADER)?;
        if start.is_empty() {
            return Err(Error::data_loss("the source is empty"));
        }
        let compression = self.options.compression.unwrap_or_else(|| Compression::detect(start));
        let least = match compression {
            Compression::Raw => self.length.or_else(|| self.late_length.get()),
            _ => compression.least_length(start),
        };
        self.check_fit(least, &mut medium)?;
        let compressed = (compression != Compression::Raw).then(|| input.counter());
        let mut plain = input;
        if compression != Compression::Raw {
            plain = decoded(plain, compression)?;
            let start = plain.peek(HEADER)?;
            if Compression::detect(start) == Compression::AndroidSparse {
                self.check_fit(Compression::AndroidSparse.least_length(start), &mut medium)?;
                plain = decoded(plain, Compression::AndroidSparse)?;
            }
        }
        if self.options.compression.is_none() {
            foreign::refuse(&self.name, plain.peek(foreign::LOOKED_AT)?, compression)?;
        }
        // Nothing is created for a cancelled flash: its caller may check the folder.
        check(&self.turn)?;
        medium.begin()?;
        let filled = self.fill(plain, compression, &mut medium).and_then(|sha256| {
            medium.inspect(self.written)?;
            check(&self.turn)?;
            Ok(sha256)
        });
        let sha256 = match filled {
            Ok(sha256) => sha256,
            Err(error) => {
                medium.discard();
                return Err(error);
            }
        };
        medium.commit(self.written, &self.turn)?;
        Ok(WriteReport {
            bytes_read: compressed.map_or(self.written, |counter| counter.get()),
            bytes_written: self.written,
            sha256,
            compression,
            elapsed: self.started.elapsed(),
        })
    }

    /// Refuses an image of at least this length that is too large.
    fn check_fit(&self, least: Option<u64>, medium: &mut impl ImageMedium) -> Result<()> {
        let Some(length) = least else { return Ok(()) };
        match self.options.limit_bytes.filter(|limit| length > *limit) {
            Some(limit) => Err(too_large(limit)),
            None => medium.check_room(length),
        }
    }

    /// Writes all items, checks that the image is complete, and returns its SHA-256, if that is
    /// wanted.
    fn fill(
        &mut self,
        mut plain: ItemReader,
        compression: Compression,
        medium: &mut impl ImageMedium,
    ) -> Result<Option<String>> {
        self.copy(&mut plain, medium)?;
        if self.written == 0 {
            return Err(Error::data_loss(format!("the {compression} file holds nothing")));
        }
        match self.digest_thread.take().map(JoinHandle::join) {
            None => Ok(None),
            Some(Ok(Some(found))) => {
                self.wishes.settle_sha256(&found)?;
                Ok(Some(found))
            }
            Some(_) => Err(Error::internal("the digest was not finished")),
        }
    }

    fn copy(&mut self, input: &mut ItemReader, medium: &mut impl ImageMedium) -> Result<()> {
        while let Some(item) = input.piece()? {
            check(&self.turn)?;
            let count = match &item {
                Item::Data(bytes) => bytes.len() as u64,
                Item::Zeros(count) => *count,
                Item::End | Item::Failed(_) => 0,
            };
            let length = self.written.saturating_add(count);
            if let Some(limit) = self.options.limit_bytes.filter(|limit| length > *limit) {
                return Err(too_large(limit));
            }
            match item {
                Item::Data(bytes) => medium.write(self.written, &bytes)?,
                Item::Zeros(count) => medium.write_zeros(self.written, count)?,
                Item::End | Item::Failed(_) => {}
            }
            self.written = length;
        }
        Ok(())
    }
}

/// The error of an image above its limit.
fn too_large(limit: u64) -> Error {
    let message =
        format!("the image is larger than {}, the most that is allowed", ByteSize::bytes(limit));
    Error::resource_exhausted(message)
        .with_hint("flash a smaller image, or raise `flash_limit` in the exporter file")
}
