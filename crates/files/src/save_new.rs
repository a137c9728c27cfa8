//! New private files, whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::destination::folder_of;

/// Writes a new file that only this user may read (0600), on the disk when this returns.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for an existing file, which stays unchanged.
/// Otherwise the errors of the file system. A failure leaves nothing behind.
pub fn save_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Temporary files are private from their beginning.
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}
