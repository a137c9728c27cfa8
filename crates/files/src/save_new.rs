//! New private files, whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::destination::folder_of;

/// Writes a new file that only this user may read (0600), on the disk when this returns.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists): there is a file of that name, which stays as it
/// is. Otherwise those of the file system. Nothing is left behind.
pub fn save_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Temporary files are private from their beginning.
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}
