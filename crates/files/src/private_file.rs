//! Private files, whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::destination::{folder_of, followed};

/// Writes a new file that only this user may read (0600), on the disk when this returns.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for an existing file, which stays unchanged.
/// Otherwise the errors of the file system. A failure leaves nothing behind.
pub fn save_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist_noclobber(path)?;
    Ok(())
}

/// Writes a file that only this user may read (0600), on the disk when this returns. It replaces
/// an old one, whatever its mode; a symbolic link stays, and the file that it leads to is replaced.
///
/// # Errors
/// The errors of the file system. The old file is unchanged then.
pub fn save_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = followed(path);
    written(&path, bytes)?.persist(&path)?;
    Ok(())
}

/// A temporary file beside `path` with these bytes.
fn written(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    // Temporary files are private from their beginning.
    let mut file = NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}
