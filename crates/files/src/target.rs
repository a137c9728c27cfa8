//! The destination of a file that a user names: any path that other programs can write to.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::context::Context;
use crate::destination::{descriptor, invalid};
use crate::sparse::{overwrite_sparse, write_sparse};
use crate::staged::{StagedFile, sync_file};
use crate::turn::Turn;

/// The opened destination that a user named.
///
/// A file is replaced when it is complete ([`StagedFile`]). One that cannot be replaced is written
/// in place; so are block devices. Other devices get the bytes as they arrive. Nothing changes
/// before the first write.
///
/// Every method blocks: call them on a thread that may.
#[derive(Debug)]
pub struct Target {
    kind: Kind,
    name: String,
    length: u64,
}

#[derive(Debug)]
enum Kind {
    Staged(StagedFile),
    InPlace { file: File, old_length: u64, why: String },
    Device { file: File, size: u64 },
    Stream(File),
}

/// The ways to write to a path.
#[derive(Debug)]
pub enum Opened {
    /// A file or a device.
    Target(Target),
    /// A pipe, without blocking: write to it when it is ready.
    Pipe(File),
    /// A named pipe without a reader. Try again later.
    NoReader,
}

impl Target {
    /// Opens `path` for an image of `length` bytes, if that is known. Does not wait for a pipe's
    /// reader.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a folder or a socket.
    /// [`StorageFull`](io::ErrorKind::StorageFull) for a device that is too small.
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) for a mounted block device. Otherwise the
    /// errors of opening.
    pub fn open(path: &Path, length: Option<u64>) -> io::Result<Opened> {
        let name = path.display().to_string();
        let target = |kind| Ok(Opened::Target(Self { kind, name: name.clone(), length: 0 }));
        let opening = || format!("opening {name}");
        let Ok(metadata) = std::fs::metadata(path) else { return target(Self::file(path, None)?) };
        let kind = metadata.file_type();
        if metadata.is_file() {
            target(Self::file(path, Some(&metadata))?)
        } else if kind.is_fifo() {
            match open(path, OFlags::NONBLOCK) {
                Ok(pipe) => Ok(Opened::Pipe(pipe)),
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                    Ok(Opened::NoReader)
                }
                // A pipe of another user, as `su` and `sudo` leave it, is open and cannot be
                // opened.
                Err(error) => match own_stream(path) {
                    Some(stream) => target(Kind::Stream(stream.doing(opening)?)),
                    None => Err(error).doing(opening),
                },
            }
        } else if kind.is_block_device() {
            // O_EXCL on a block device: refused while it is mounted.
            let mut file = open(path, OFlags::EXCL).doing(opening)?;
            let size = file.seek(SeekFrom::End(0)).doing(opening)?;
            check_size(&name, size, length.unwrap_or_default())?;
            target(Kind::Device { file, size })
        } else if kind.is_char_device() {
            let stream =
                open(path, OFlags::NOCTTY).or_else(|error| own_stream(path).unwrap_or(Err(error)));
            target(Kind::Stream(stream.doing(opening)?))
        } else if let Some(stream) = own_stream(path) {
            target(Kind::Stream(stream.doing(opening)?))
        } else if metadata.is_dir() {
            Err(invalid(format!("{name} is a folder; name a file in it")))
        } else {
            Err(invalid(format!("{name} is a socket, which is not written to as a file is")))
        }
    }

    /// A regular file, or a missing one.
    fn file(path: &Path, old: Option<&Metadata>) -> io::Result<Kind> {
        if let Some(stream) = own_stream(path) {
            return stream.map(Kind::Stream);
        }
        let in_place = |why: String| {
            let file = open(path, OFlags::empty())?;
            let old_length = file.metadata()?.len();
            Ok(Kind::InPlace { file, old_length, why })
        };
        if old.is_some() && descriptor(path).is_some() {
            return in_place("it is a file that is open already".to_owned());
        }
        match StagedFile::stage(path) {
            Ok(staged) => Ok(Kind::Staged(staged)),
            Err(refusal) if refusal.in_place => {
                // The reason against replacing says more than the one against writing.
                in_place(refusal.error.to_string()).map_err(|_: io::Error| refusal.error)
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    /// Why the old file is overwritten instead of replaced, if it is: a failed write then leaves
    /// neither image.
    pub fn in_place(&self) -> Option<&str> {
        match &self.kind {
            Kind::InPlace { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Appends `bytes`; blocks of zeros become holes in files.
    ///
    /// # Errors
    /// The errors of the disk; [`StorageFull`](io::ErrorKind::StorageFull) at the end of a device.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let offset = self.length;
        match &mut self.kind {
            Kind::Staged(staged) => write_sparse(staged.file(), bytes, offset),
            Kind::InPlace { file, old_length, .. } => {
                overwrite_sparse(file, bytes, offset, *old_length).doing(|| {
                    format!("{} is written in place and holds a part of the image now", self.name)
                })
            }
            Kind::Device { file, size } => {
                check_size(&self.name, *size, offset.saturating_add(bytes.len() as u64))?;
                file.write_all_at(bytes, offset)
            }
            Kind::Stream(file) => file.write_all(bytes),
        }?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Completes the write: syncs it and, for a file, puts it in place, unless the caller whose
    /// `turn` it is was cancelled before; then returns false.
    ///
    /// # Errors
    /// The errors of the disk. A file that was to be replaced is unchanged.
    pub fn commit(self, turn: &Turn) -> io::Result<bool> {
        match self.kind {
            Kind::Staged(mut staged) => {
                let length = self.length;
                let done = staged
                    .file()
                    .set_len(length)
                    .and_then(|()| staged.sync())
                    .and_then(|()| staged.rename(turn));
                match done {
                    Ok(true) => staged.sync_folder(),
                    Ok(false) | Err(_) => staged.discard(),
                }
                done
            }
            Kind::InPlace { file, .. } => {
                file.set_len(self.length).and_then(|()| sync_file(&file)).map(|()| true)
            }
            Kind::Device { file, .. } => sync_file(&file).map(|()| true),
            Kind::Stream(_) => Ok(true),
        }
    }

    /// Cancels on this thread; dropping does it on another thread.
    pub fn discard(self) {
        if let Kind::Staged(staged) = self.kind {
            staged.discard();
        }
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

/// This process's standard output or error, if the path leads there: written at their current
/// position, as a shell's `>&1` does. Opening the path again would begin at the start of the file,
/// and fails for a socket.
fn own_stream(path: &Path) -> Option<io::Result<File>> {
    let (process, number) = descriptor(path)?;
    if process != std::process::id() {
        return None;
    }
    let duplicate = match number {
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        _ => return None,
    };
    Some(duplicate.map(File::from))
}

fn check_size(name: &str, size: u64, length: u64) -> io::Result<()> {
    if length <= size {
        return Ok(());
    }
    let message = format!("{name} has {size} bytes, fewer than the image");
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}
