//! Where a path leads: through symbolic links, to a folder and a name, or to a descriptor of a
//! process.

use std::io;
use std::path::{Path, PathBuf};

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// Where symbolic links lead, also to a file that is not there yet.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::canonicalize(&path) {
            Ok(found) => return found,
            Err(_) => match std::fs::read_link(&path) {
                Ok(target) => path = folder_of(&path).join(target),
                Err(_) => return path,
            },
        }
    }
    path
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The descriptor of a process that a path such as `/dev/stdout` or `/dev/fd/63` leads to: the
/// process's number and the descriptor's.
///
/// What such a path "links" to is a description: a pipe has no path, and the path of a file may be
/// another file's by now.
pub(crate) fn descriptor(path: &Path) -> Option<(u32, u32)> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = std::fs::canonicalize(folder_of(&path)).ok()?;
        let mut parts = folder.iter().skip(1).map(|part| part.to_str().unwrap_or_default());
        if parts.next() == Some("proc")
            && let Some(process) = parts.next().and_then(|process| process.parse().ok())
            && folder.ends_with("fd")
        {
            return Some((process, path.file_name()?.to_str()?.parse().ok()?));
        }
        path = folder_of(&path).join(std::fs::read_link(&path).ok()?);
    }
    None
}

pub(crate) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
