//! What is in a confined folder.

use std::io;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use super::ConfinedFolder;
use super::path::InnerPath;
use crate::names::is_staged;

/// What an [`Entry`] is; links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder, which can be listed.
    Folder,
    /// A device, a pipe, a socket, or a link that leads nowhere or outside.
    Other,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The last part of its path; bytes that are no text are replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Whether it is a link.
    pub is_link: bool,
}

impl ConfinedFolder {
    /// Lists a folder, sorted by name. Files in the making are left out.
    ///
    /// # Errors
    /// [`NotADirectory`](io::ErrorKind::NotADirectory), and those of the file system.
    pub fn list(&self, path: &InnerPath) -> io::Result<Vec<Entry>> {
        let folder = self.resolve(path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || is_staged(name.to_bytes()) {
                continue;
            }
            let named = match entry.file_type() {
                FileType::Unknown => {
                    let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                    else {
                        continue;
                    };
                    FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            let name = name.to_string_lossy().into_owned();
            let is_link = named == FileType::Symlink;
            let kind = match named {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Folder,
                FileType::Symlink => self.behind(path, &name),
                _ => EntryKind::Other,
            };
            found.push(Entry { name, kind, is_link });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What a link leads to.
    fn behind(&self, folder: &InnerPath, name: &str) -> EntryKind {
        let path = InnerPath::new(&format!("{}/{name}", folder.as_str()));
        match path.and_then(|path| self.metadata(&path)) {
            Ok(metadata) if metadata.is_dir() => EntryKind::Folder,
            Ok(metadata) if metadata.is_file() => EntryKind::File,
            _ => EntryKind::Other,
        }
    }
}
