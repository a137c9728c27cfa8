//! The end of the pipeline: a new file that replaces the old one, with holes for zeros; or a block
//! device.

use crate::medium::ImageMedium;
use crate::options::Inspect;
use crate::room::Room;
use crate::thread::gone;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use jumpstarter_files::{StagedFile, Turn, write_sparse};
use rustix::fs::{Advice, fadvise};
use std::fs::{File, OpenOptions};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The amount after which the kernel is asked to start writing to the disk.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// Replaces a file once the image is complete, or writes a block device in place.
pub(crate) struct Output {
    destination: PathBuf,
    inspect: Option<Inspect>,
    target: Option<Target>,
    room: Room,
}

enum Target {
    /// Replaces a file once it is complete.
    File(StagedFile),
    /// Written in place, including zeros: otherwise the old image would show through.
    Device(File),
}

impl Output {
    /// Makes the output for `destination`; `inspect` sees a new file before that replaces the old
    /// one.
    pub(crate) fn new(destination: &Path, inspect: Option<Inspect>) -> Self {
        let destination = destination.to_owned();
        Self { destination, inspect, target: None, room: Room::default() }
    }

    fn target(&mut self) -> Result<&mut Target> {
        self.target.as_mut().ok_or_else(|| Error::internal("nothing is open"))
    }
}

impl ImageMedium for Output {
    /// Opens a block device in place, anything else as a temporary sibling.
    fn begin(&mut self) -> Result<()> {
        let is_device = std::fs::metadata(&self.destination)
            .is_ok_and(|metadata| metadata.file_type().is_block_device());
        self.target = Some(if is_device {
            // O_EXCL on a block device: refused while it is mounted.
            let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
            let device =
                OpenOptions::new().write(true).custom_flags(exclusive).open(&self.destination);
            Target::Device(device.map_err(|error| {
                let busy = error.kind() == std::io::ErrorKind::ResourceBusy;
                let error = Error::from(error).context("opening the block device");
                if busy { error.with_hint("it is in use; unmount it first") } else { error }
            })?)
        } else {
            Target::File(StagedFile::create(&self.destination)?)
        });
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let count = bytes.len() as u64;
        if let Some(Target::File(staged)) = &mut self.target {
            self.room.take(staged.file(), count).map_err(no_space)?;
        }
        match self.target()? {
            Target::Device(device) => device.write_all_at(bytes, offset).map_err(disk_error),
            Target::File(staged) => {
                write_sparse(staged.file(), bytes, offset).map_err(disk_error)?;
                start_writeback(staged.file(), offset, count);
                Ok(())
            }
        }
    }

    fn write_zeros(&mut self, offset: u64, count: u64) -> Result<()> {
        match self.target()? {
            Target::Device(device) => write_zeros(device, count, offset).map_err(disk_error),
            Target::File(staged) => {
                start_writeback(staged.file(), offset, count);
                Ok(())
            }
        }
    }

    fn inspect(&mut self, length: u64) -> Result<()> {
        let inspect = self.inspect.take();
        let Target::File(staged) = self.target()? else { return Ok(()) };
        staged.file().set_len(length).map_err(disk_error)?;
        inspect.map_or(Ok(()), |inspect| inspect.look(staged.file()))
    }

    /// Writes everything to the disk and replaces the old file, unless the caller was cancelled by
    /// then.
    fn commit(mut self, _: u64, turn: &Turn) -> Result<()> {
        match self.target.take() {
            Some(Target::Device(device)) => device.sync_all().context("writing to the device"),
            Some(Target::File(mut staged)) => {
                let prepare = |staged: &mut StagedFile| {
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

fn write_zeros(file: &File, count: u64, offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < count {
        let now = (count - done).min(crate::item::ZEROS.len() as u64);
        file.write_all_at(&crate::item::ZEROS[..now as usize], offset + done)?;
        done += now;
    }
    Ok(())
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
