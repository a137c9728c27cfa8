//! Devices and files of this machine that entries of different processes name: only one process can
//! use them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Place, join};
use super::yaml::{Node, Value};

/// Devices below `/dev` that any number of programs may use at once.
const SHARED: [&str; 8] = ["null", "zero", "full", "random", "urandom", "kvm", "kmsg", "tty"];
/// The beginnings of the names of others.
const SHARED_KINDS: [&str; 8] =
    ["gpiochip", "i2c-", "vhost-", "net/", "dri/", "shm/", "fd/", "std"];
/// The fields that name a file which belongs to their driver.
const OWNING: [&str; 5] = ["path", "device", "url", "port", "storage_device"];

/// A process, and an entry that it has.
pub(super) struct Owner<'a> {
    /// The number of the process that hosts the entry; none for this program.
    pub(super) process: Option<usize>,
    /// The path of the entry in the device.
    pub(super) place: &'a str,
    /// Its path in the file.
    pub(super) path: &'a str,
    pub(super) config: &'a Node,
}

/// Faults of the entries that name what an entry of another process names, too.
pub(super) fn faults<'a>(owners: impl Iterator<Item = Owner<'a>>) -> Vec<Fault> {
    let mut first: HashMap<PathBuf, (Option<usize>, &str, Place)> = HashMap::new();
    let mut faults = Vec::new();
    for owner in owners {
        let mut found = Vec::new();
        collect(owner.config, "", &join(owner.path, "config"), &mut found);
        for (device, path, place) in found {
            let (process, other, there) =
                *first.entry(device.clone()).or_insert((owner.process, owner.place, place));
            if process != owner.process {
                let message = format!(
                    "`{other}` ({}:{}) has `{}` too, and runs in another process",
                    there.line,
                    there.column,
                    device.display()
                );
                let hint = format!("keep one of them, or make `{}` a `ref`", owner.place);
                faults.push(Fault::new(place, path, message).hint(hint));
            }
        }
    }
    faults
}

/// Adds what the texts of a configuration name, each with its path and place.
fn collect(node: &Node, key: &str, path: &str, found: &mut Vec<(PathBuf, String, Place)>) {
    match &node.value {
        Value::Text(text) => {
            found.extend(owned(key, text).map(|owned| (owned, path.to_owned(), node.place)));
        }
        Value::Map(entries) => {
            for entry in entries {
                collect(&entry.value, &entry.key, &join(path, &entry.key), found);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, key, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// The device or file that a text names, links followed, if only one process can use it.
fn owned(key: &str, text: &str) -> Option<PathBuf> {
    // As pyserial's `spy:///dev/ttyUSB0?file=log`.
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let written = Path::new(text.split_once('?').map_or(text, |(path, _)| path));
    if !written.is_absolute() {
        return None;
    }
    let path = std::fs::canonicalize(written).unwrap_or_else(|_| written.to_owned());
    let is_owned = match path.strip_prefix("/dev") {
        Ok(device) => !device.to_str().is_some_and(is_shared),
        Err(_) => OWNING.contains(&key) && path.is_file(),
    };
    is_owned.then_some(path)
}

/// Whether any number of programs may use the device at once.
fn is_shared(device: &str) -> bool {
    let is_kind = |kind: &&str| device.starts_with(kind);
    device.is_empty() || SHARED.contains(&device) || SHARED_KINDS.iter().any(is_kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, text: &str, expected: Option<&str>) {
        assert_eq!(owned(key, text).as_deref(), expected.map(Path::new), "{text}");
    }

    #[test]
    fn what_only_one_process_can_use() {
        for device in ["/dev/ttyUSB7", "/dev/serial/by-id/usb-none", "/dev/sd-none", "/dev/video9"]
        {
            check("any", device, Some(device));
        }
        check("url", "spy:///dev/ttyUSB7?file=log", Some("/dev/ttyUSB7"));
        for shared in
            ["/dev/null", "/dev/gpiochip0", "/dev/net/tun", "/dev/kvm", "/dev/tty", "/dev"]
        {
            check("device", shared, None);
        }
        for other in ["loop://", "socket://lab:7000", "ttyUSB7", "rfc2217://lab:7/dev/ttyUSB7"] {
            check("url", other, None);
        }
    }

    #[test]
    fn files_belong_to_drivers_whose_field_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("image"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let file = std::fs::canonicalize(&file).unwrap();
        check("path", link.to_str().unwrap(), file.to_str());
        check("ca", link.to_str().unwrap(), None);
        check("path", folder.path().to_str().unwrap(), None);
    }
}
