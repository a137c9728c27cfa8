//! Takes files that another program left for this one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::names::open_regular;

/// Reads the first `limit` bytes of a file that another program has left, and removes it. Returns
/// `None` if there is none.
///
/// Blocks, but waits for no pipe and for no device.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is not a regular file. Otherwise the errors
/// of the file system. In both cases the file is removed, too.
pub fn take_file(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let taken = open_regular(path, File::options().read(true)).and_then(|file| {
        let file = file.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
        })?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match (taken, std::fs::remove_file(path)) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(bytes), Ok(())) => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_read_once_and_a_pipe_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left");
        assert_eq!(take_file(&path, 4).unwrap(), None);
        std::fs::write(&path, "abcdef").unwrap();
        assert_eq!(take_file(&path, 4).unwrap().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(take_file(&path, 4).unwrap(), None);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(take_file(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(take_file(&path, 4).unwrap(), None);
    }
}
