//! Names of temporary siblings: which file they are for, who makes them, and which were left by a
//! killed process.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

const SUFFIX: &[u8] = b".partial";
/// The longest name of a file, in bytes.
const NAME_LIMIT: usize = 255;
/// Room for the numbers of a process (7 digits, 10 at most) and of a file (20 at most) and what
/// stands between them.
const NUMBERS: usize = 32;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The names of the temporary siblings of one file: `.NAME.PROCESS-NUMBER.partial`. Of a long name
/// only the beginning is taken, and a hash of all of it.
pub(crate) struct Names {
    prefix: Vec<u8>,
}

impl Names {
    pub(crate) fn new(name: &OsStr) -> Self {
        let name = name.as_bytes();
        let room = NAME_LIMIT - NUMBERS - SUFFIX.len() - 2;
        let mut prefix = vec![b'.'];
        if name.len() <= room {
            prefix.extend_from_slice(name);
        } else {
            let hash = format!("~{:016x}", fnv(name));
            prefix.extend_from_slice(&name[..room - hash.len()]);
            prefix.extend_from_slice(hash.as_bytes());
        }
        prefix.push(b'.');
        Self { prefix }
    }

    /// A name that this process has not used yet.
    pub(crate) fn next(&self) -> OsString {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut name = self.prefix.clone();
        name.extend_from_slice(format!("{}-{number}", std::process::id()).as_bytes());
        name.extend_from_slice(SUFFIX);
        OsString::from_vec(name)
    }

    /// Whether `name` is `PREFIX<digits>-<digits>.partial`.
    fn is_one(&self, name: &OsStr) -> bool {
        let middle =
            name.as_bytes().strip_prefix(&*self.prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
        let Some(middle) = middle else { return false };
        let mut parts = middle.split(|byte| *byte == b'-');
        let mut is_number = || {
            parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
        };
        is_number() && is_number() && !is_number() && parts.next().is_none()
    }

    /// Removes what killed processes left in `folder`. What fails is left for the next time.
    pub(crate) fn remove_leftovers(&self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten().filter(|entry| self.is_one(&entry.file_name())) {
            let path = entry.path();
            // A process that still writes it holds the lock, which is released with the process.
            let Ok(Some(file)) = open_regular(&path, OpenOptions::new().write(true)) else {
                continue;
            };
            if file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
                tracing::info!(path = %path.display(), "removed what a killed process left");
            }
        }
    }
}

/// Whether a file of that name may be one in the making: clients do not see those.
pub(crate) fn is_staged(name: &[u8]) -> bool {
    name.starts_with(b".") && name.ends_with(SUFFIX)
}

/// Opens a regular file, if it is one, without waiting: neither for the other end of a pipe nor for
/// a device.
pub(crate) fn open_regular(path: &Path, options: &OpenOptions) -> io::Result<Option<File>> {
    // Opening alone may do something to a device.
    let named = std::fs::symlink_metadata(path)?;
    if !named.is_file() {
        return Ok(None);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = options.clone().custom_flags(flags.bits() as i32).open(path)?;
    let opened = file.metadata()?;
    let is_same = (named.dev(), named.ino()) == (opened.dev(), opened.ino());
    Ok((is_same && opened.is_file()).then_some(file))
}

/// FNV-1a, 64 bits: the same in every version of this program.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_leftovers() {
        let names = Names::new(OsStr::new("os.img"));
        for (name, expected) in [
            (".os.img.12-0.partial", true),
            (".os.img.12-.partial", false),
            (".os.img.12.partial", false),
            (".os.img.12-0-1.partial", false),
            (".os.img.a-1.partial", false),
            (".os.img.partial", false),
            ("os.img.12-0.partial", false),
            (".os.img.1.12-0.partial", false),
        ] {
            assert_eq!(names.is_one(OsStr::new(name)), expected, "{name}");
        }
        assert!(names.is_one(&names.next()));
    }

    #[test]
    fn every_name_that_a_file_can_have_has_siblings() {
        for length in [1, 200, 212, 213, 214, 238, 239, 254, 255] {
            let name = OsString::from_vec(vec![0xff; length]);
            let names = Names::new(&name);
            let next = names.next();
            assert!(next.len() <= NAME_LIMIT, "{length}: {}", next.len());
            assert!(names.is_one(&next), "{length}");
            // Of another name with the same beginning.
            let mut other = name.into_vec();
            other.pop();
            other.push(b'x');
            assert!(!Names::new(OsStr::from_bytes(&other)).is_one(&next), "{length}");
        }
    }
}
