//! The end of the pipeline: a new file that replaces the old one, with holes for zeros; or a block
//! device.

use crate::device::Device;
use crate::item::ZEROS;
use crate::medium::ImageMedium;
use crate::options::{Inspect, NewFile, WriteOptions};
use crate::read_back::Checksums;
use crate::thread::gone;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use jumpstarter_files::{Room, StagedFile, Turn, discard, write_over, write_sparse, zero};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The amount after which the kernel is asked to start writing to the disk.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// Shorter unmapped ranges of a block device are not discarded, in bytes.
const LEAST_DISCARD: u64 = 64 * 1024;

/// Replaces a file once the image is complete, or writes a block device in place.
pub(crate) struct Output {
    destination: PathBuf,
    inspect: Option<Inspect>,
    must_exist: bool,
    target: Option<Target>,
    room: Room,
    /// Bytes of a block device that the image does not map, and that are not discarded yet.
    unmapped: Range<u64>,
    /// For the verification, if that is wanted.
    checksums: Option<Checksums>,
    torn: Torn,
}

enum Target {
    /// Replaces a file once it is complete.
    File(StagedFile),
    /// Written in place, including zeros: otherwise the old image would show through.
    Device(Device),
}

/// Whether a block device has lost its old image.
#[derive(Clone, Default)]
pub(crate) struct Torn(Arc<AtomicBool>);

impl Torn {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Output {
    /// Opens a block device, which stays untouched until the first write; anything else is opened
    /// when the image begins.
    pub(crate) fn open(destination: PathBuf, options: &WriteOptions) -> Result<Self> {
        let target = Device::open(&destination)?.map(Target::Device);
        let output = Self {
            destination,
            inspect: options.inspect.clone(),
            must_exist: options.must_exist,
            target,
            room: Room::default(),
            unmapped: 0..0,
            checksums: options.verify.then(Checksums::default),
            torn: Torn::default(),
        };
        output.require()?;
        Ok(output)
    }

    /// Refuses to make a file in the place of a device that was removed.
    fn require(&self) -> Result<()> {
        if !self.must_exist || self.target.is_some() || self.destination.exists() {
            return Ok(());
        }
        Err(Error::unavailable("it is not there: the medium was removed")
            .with_hint("insert it, and take it again"))
    }

    /// Whether the destination is torn after a failure.
    pub(crate) fn torn(&self) -> Torn {
        self.torn.clone()
    }

    /// Discards what the image does not map, if that is worth it: a device that cannot keeps it.
    fn discard_unmapped(&mut self) {
        let Range { start, end } = std::mem::replace(&mut self.unmapped, 0..0);
        if let Some(Target::Device(device)) = &self.target
            && end - start >= LEAST_DISCARD
            && discard(&device.file, start, end - start)
        {
            self.torn.set();
        }
    }

    fn target(&mut self) -> Result<&mut Target> {
        self.target.as_mut().ok_or_else(|| Error::internal("nothing is open"))
    }
}

impl ImageMedium for Output {
    fn check_room(&mut self, length: u64) -> Result<()> {
        match &self.target {
            Some(Target::Device(device)) => device.check_room(length),
            // A file's holes take no room.
            _ => Ok(()),
        }
    }

    /// Opens anything but a block device as a temporary sibling.
    fn begin(&mut self) -> Result<()> {
        if self.target.is_none() {
            self.require()?;
            self.target = Some(Target::File(StagedFile::create(&self.destination)?));
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let count = bytes.len() as u64;
        if let Some(Target::File(staged)) = &mut self.target {
            self.room.take(staged.file(), count).map_err(disk_error)?;
        }
        if let Some(checksums) = &mut self.checksums {
            checksums.add(offset, bytes);
        }
        self.discard_unmapped();
        let torn = self.torn.clone();
        match self.target()? {
            Target::Device(device) => {
                device.check_room(offset + count)?;
                torn.set();
                write_over(&device.file, bytes, offset).map_err(disk_error)?;
                start_writeback(&device.file, offset, count);
            }
            Target::File(staged) => {
                write_sparse(staged.file(), bytes, offset).map_err(disk_error)?;
                start_writeback(staged.file(), offset, count);
            }
        }
        Ok(())
    }

    fn write_zeros(&mut self, offset: u64, count: u64) -> Result<()> {
        if let Some(checksums) = &mut self.checksums {
            let mut done = 0;
            while done < count {
                let now = (count - done).min(ZEROS.len() as u64);
                checksums.add(offset + done, &ZEROS[..now as usize]);
                done += now;
            }
        }
        self.discard_unmapped();
        let torn = self.torn.clone();
        match self.target()? {
            Target::Device(device) => {
                device.check_room(offset + count)?;
                torn.set();
                zero(&device.file, offset, count).map_err(disk_error)
            }
            Target::File(staged) => {
                start_writeback(staged.file(), offset, count);
                Ok(())
            }
        }
    }

    /// A block device discards it, in one piece: devices discard in large steps only.
    fn skip(&mut self, offset: u64, count: u64) -> Result<()> {
        let Target::Device(device) = self.target()? else { return Ok(()) };
        device.check_room(offset + count)?;
        if self.unmapped.end != offset {
            self.discard_unmapped();
            self.unmapped.start = offset;
        }
        self.unmapped.end = offset + count;
        Ok(())
    }

    fn inspect(&mut self, length: u64) -> Result<()> {
        let inspect = self.inspect.take();
        let Target::File(staged) = self.target()? else { return Ok(()) };
        staged.file().set_len(length).map_err(disk_error)?;
        let new = NewFile { file: staged.file(), path: staged.temporary() };
        inspect.map_or(Ok(()), |inspect| inspect.look(new))
    }

    /// Writes everything to the disk and replaces the old file, unless the caller was cancelled by
    /// then.
    fn commit(mut self, _: u64, turn: &Turn) -> Result<()> {
        self.discard_unmapped();
        let checksums = self.checksums.take();
        match self.target.take() {
            Some(Target::Device(device)) => {
                device.file.sync_all().context("syncing the device")?;
                checksums.map_or(Ok(()), |written| written.compare(&device.file, turn))
            }
            Some(Target::File(mut staged)) => {
                let prepare = move |staged: &mut StagedFile| {
                    staged.sync().map_err(disk_error)?;
                    if let Some(written) = checksums {
                        written.compare(staged.file(), turn)?;
                    }
                    if staged.rename(turn)? { Ok(()) } else { Err(gone()) }
                };
                if let Err(error) = prepare(&mut staged) {
                    staged.discard();
                    return Err(error);
                }
                staged.sync_folder();
                Ok(())
            }
            None => Err(Error::internal("nothing is open")),
        }
    }

    /// Keeps the old file, and nothing else.
    fn discard(self) {
        if let Some(Target::File(staged)) = self.target {
            staged.discard();
        }
    }
}

/// Makes the kernel start writing, so that the disk works while the next part is decompressed.
///
/// The advice also drops pages that are on the disk already; these are not yet, so they stay
/// cached.
fn start_writeback(file: &File, offset: u64, count: u64) {
    let window = offset / WRITEBACK;
    if (offset + count) / WRITEBACK == window {
        return;
    }
    let offset = window * WRITEBACK;
    // Only advice: a file system that ignores it writes at the end.
    if let Err(error) = fadvise(file, offset, NonZeroU64::new(WRITEBACK), Advice::DontNeed) {
        tracing::debug!(%error, "no early writing");
    }
}

/// Adds a hint about an exceeded limit.
fn disk_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => Error::from(error).with_hint(
            "raise the limit of file sizes (`ulimit -f`), or use a file system for larger files",
        ),
        _ => no_space(error.into()),
    }
}

fn no_space(error: Error) -> Error {
    if error.kind() == ErrorKind::ResourceExhausted {
        return error.with_hint("free space on the disk, or use a larger one: the new image needs space beside the old one until it is complete");
    }
    error
}
