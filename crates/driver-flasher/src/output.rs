//! The end of the pipeline: a new file that takes the old one's place, with holes for zeros; or a
//! block device.

use crate::item::Item;
use crate::room::{Room, too_large};
use crate::thread::gone;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use jumpstarter_files::{StagedFile, Turn, write_sparse};
use rustix::fs::{Advice, fadvise};
use std::fs::{File, OpenOptions};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// How much is written before the disk is told to begin with it.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// The image being written.
pub(crate) struct Output {
    target: Target,
    length: u64,
    limit: Option<u64>,
    room: Room,
}

enum Target {
    /// Replaces a file when it is whole.
    File(StagedFile),
    /// Written in place, zeros too: what was there shows through otherwise.
    Device(File),
}

impl Output {
    /// Opens what will be `destination`: a block device in place, anything else as a temporary
    /// sibling.
    pub(crate) fn open(destination: &Path, limit: Option<u64>) -> Result<Self> {
        let is_device = std::fs::metadata(destination)
            .is_ok_and(|metadata| metadata.file_type().is_block_device());
        let target = if is_device {
            // O_EXCL on a block device: refused while it is mounted.
            let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
            let device = OpenOptions::new().write(true).custom_flags(exclusive).open(destination);
            Target::Device(device.map_err(|error| {
                let busy = error.kind() == std::io::ErrorKind::ResourceBusy;
                let error = Error::from(error).context("opening the block device");
                if busy { error.with_hint("it is in use; unmount it first") } else { error }
            })?)
        } else {
            Target::File(StagedFile::create(destination)?)
        };
        Ok(Self { target, length: 0, limit, room: Room::default() })
    }

    /// Bytes of the image so far, holes included.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends a piece of the image.
    pub(crate) fn append(&mut self, item: &Item) -> Result<()> {
        let count = match item {
            Item::Data(bytes) => bytes.len() as u64,
            Item::Zeros(count) => *count,
            Item::End | Item::Failed(_) => 0,
        };
        if let Some(limit) = self.limit.filter(|limit| self.length.saturating_add(count) > *limit) {
            return Err(too_large(limit));
        }
        if let (Target::File(staged), Item::Data(bytes)) = (&mut self.target, item) {
            self.room.take(staged.file(), bytes.len() as u64).map_err(no_space)?;
        }
        let written = match (&mut self.target, item) {
            (Target::File(staged), Item::Data(bytes)) => {
                write_sparse(staged.file(), bytes, self.length)
            }
            (Target::Device(device), Item::Data(bytes)) => device.write_all_at(bytes, self.length),
            (Target::Device(device), Item::Zeros(count)) => {
                write_zeros(device, *count, self.length)
            }
            (Target::File(_), Item::Zeros(_)) | (_, Item::End | Item::Failed(_)) => Ok(()),
        };
        written.map_err(disk_error)?;
        let window = self.length / WRITEBACK;
        self.length += count;
        if let Target::File(staged) = &mut self.target
            && self.length / WRITEBACK > window
        {
            start_writeback(staged.file(), window * WRITEBACK);
        }
        Ok(())
    }

    /// Gives up: the old file stays, and nothing else.
    pub(crate) fn discard(self) {
        if let Target::File(staged) = self.target {
            staged.discard();
        }
    }

    /// Puts everything on the disk and the new file in the old one's place, unless the caller is
    /// gone by then.
    ///
    /// `inspect` has a look at a new file before; its error leaves the old one.
    pub(crate) fn commit(
        self,
        turn: &Turn,
        inspect: impl FnOnce(&File) -> Result<()>,
    ) -> Result<()> {
        match self.target {
            Target::Device(device) => device.sync_all().context("writing to the device"),
            Target::File(mut staged) => {
                let length = self.length;
                let prepare = |staged: &mut StagedFile| {
                    staged.file().set_len(length).map_err(disk_error)?;
                    inspect(staged.file())?;
                    staged.sync().map_err(disk_error)?;
                    if staged.rename(turn)? { Ok(()) } else { Err(gone()) }
                };
                if let Err(error) = prepare(&mut staged) {
                    staged.discard();
                    return Err(error);
                }
                staged.sync_folder();
                Ok(())
            }
        }
    }
}

/// Has the kernel start to write what it was given, so that the disk works while the next part is
/// decompressed.
///
/// The advice also forgets pages that are on the disk already; these are not yet, so they stay
/// cached.
fn start_writeback(file: &File, offset: u64) {
    // Only advice: a file system that does not take it writes at the end.
    if let Err(error) = fadvise(file, offset, NonZeroU64::new(WRITEBACK), Advice::DontNeed) {
        tracing::debug!(%error, "no early writing");
    }
}

fn write_zeros(file: &File, count: u64, offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < count {
        let now = (count - done).min(crate::item::ZEROS.len() as u64);
        file.write_all_at(&crate::item::ZEROS[..now as usize], offset + done)?;
        done += now;
    }
    Ok(())
}

/// With what to do about a limit that was met.
fn disk_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => Error::from(error).with_hint(
            "raise the limit for the size of files (`ulimit -f`), or use a file system for large files",
        ),
        _ => no_space(error.into()),
    }
}

fn no_space(error: Error) -> Error {
    if error.kind() == ErrorKind::ResourceExhausted {
        return error.with_hint("the disk is full: remove something, or use a larger one; the image needs room beside the old one until it is complete");
    }
    error
}
