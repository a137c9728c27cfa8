//! What a new file takes over from the one that it replaces: owner, mode, access list, labels and
//! other attributes.

use std::ffi::CString;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// Attributes that describe the content, which is now another one. Writing in place drops them,
/// too. The last one is the format of a machine's disk; the new image has a new one.
const OF_THE_CONTENT: [&[u8]; 4] =
    [b"security.capability", b"security.ima", b"security.evm", b"user.jumpstarter.disk-format"];
/// Where Linux keeps an access list.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Gives a new, empty file the owner and the attributes of the one that it replaces; returns the
/// mode that it gets once it is complete.
///
/// Only root may give files away. A file that keeps another group gets no rights for its group.
///
/// # Errors
/// Something of the old file cannot be kept: the error names it.
pub(crate) fn take_over(old_path: &Path, old: &Metadata, new: &File) -> io::Result<u32> {
    // Another content gets no rights that were given to the old one.
    const SET_IDS: u32 = 0o6000;
    let mut mode = old.mode() & 0o7777 & !SET_IDS;
    let is_ours = |new: &Metadata| (old.uid(), old.gid()) == (new.uid(), new.gid());
    if !new.metadata().is_ok_and(|new| is_ours(&new))
        && fchown(new, Some(old.uid()), Some(old.gid())).is_err()
    {
        const GROUP: u32 = 0o070;
        if fchown(new, None, Some(old.gid())).is_err() {
            mode &= !GROUP;
        }
    }
    let kept = copy_attributes(old_path, new)?;
    // The folder's default list made one for the new file, which the old one had not.
    let has_list = |name: &CString| name.as_bytes() == ACCESS_LIST;
    if !kept.iter().any(has_list) && names(|buffer| flistxattr(new, buffer))?.iter().any(has_list) {
        fremovexattr(new, ACCESS_LIST).map_err(|error| lost(ACCESS_LIST, error))?;
    }
    Ok(mode)
}

/// Copies the extended attributes; returns their names.
fn copy_attributes(old: &Path, new: &File) -> io::Result<Vec<CString>> {
    let names = names(|buffer| listxattr(old, buffer))?;
    for name in names.iter().filter(|name| !OF_THE_CONTENT.contains(&name.as_bytes())) {
        let copy = || {
            let value = read(|buffer| getxattr(old, name.as_c_str(), buffer))?;
            let there = read(|buffer| fgetxattr(new, name.as_c_str(), buffer));
            // The system's own, such as a label that the folder gives: writing it may need a right.
            if there.is_ok_and(|there| there == value) {
                return Ok(());
            }
            fsetxattr(new, name.as_c_str(), &value, XattrFlags::empty())
        };
        match copy() {
            // Removed meanwhile.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(lost(name.as_bytes(), error)),
        }
    }
    Ok(names)
}

/// The names of a list; empty where the file system has no attributes.
fn names(list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<CString>> {
    match read(list) {
        Ok(names) => Ok(names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter_map(|name| CString::new(name).ok())
            .collect()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what may be as long as the system allows.
fn read(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    const LONGEST: usize = 64 * 1024;
    let mut value = vec![0; LONGEST];
    let length = get(&mut value)?;
    value.truncate(length);
    Ok(value)
}

fn lost(name: &[u8], error: Errno) -> io::Error {
    let error = io::Error::from(error);
    let name = match name {
        ACCESS_LIST => "access list".to_owned(),
        name => format!("attribute {}", String::from_utf8_lossy(name)),
    };
    io::Error::new(error.kind(), format!("its {name} cannot be kept: {error}"))
}

/// Whether the file has the permissions of `mode`.
pub(crate) fn has_mode(file: &File, mode: u32) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.mode() & 0o777 == mode & 0o777)
}

/// Sets the mode. Returns false where the file system lets nobody do that.
pub(crate) fn set_mode(file: &File, mode: u32) -> bool {
    file.set_permissions(Permissions::from_mode(mode)).is_ok()
}
