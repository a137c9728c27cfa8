//! The serial devices of this machine, and the processes that have one open: for error messages.

use std::io;
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{Error, suggest};

const PREFIXES: [&str; 6] = ["ttyUSB", "ttyACM", "ttyS", "ttyAMA", "cu.", "tty.usb"];

/// The serial devices under `/dev`: those with stable names first, then by kernel name. Of the
/// kernel's many legacy `ttyS` nodes, only the first four.
pub fn serial_devices() -> Vec<PathBuf> {
    let mut stable = names_in(Path::new("/dev/serial/by-id"), |_| true);
    let found =
        names_in(Path::new("/dev"), |name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    let legacy = |path: &PathBuf| path.to_string_lossy().starts_with("/dev/ttyS");
    let (few, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(legacy);
    stable.extend(rest);
    stable.extend(few.into_iter().take(4));
    stable
}

fn names_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// The error for a device that cannot be opened: `error`'s kind, and what to do about it.
pub(crate) fn missing(path: &Path, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            let devices: Vec<String> =
                serial_devices().into_iter().map(|device| device.display().to_string()).collect();
            let wanted = path.display().to_string();
            let near = suggest::nearest(&wanted, devices.iter().map(String::as_str));
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            if devices.is_empty() {
                "is it plugged in? No serial device was found under /dev".to_owned()
            } else {
                format!(
                    "{near}is it plugged in? Found: {}",
                    suggest::list(devices.iter().map(String::as_str))
                )
            }
        }
        io::ErrorKind::PermissionDenied => {
            "add the user to the device's group (often dialout or uucp) and log in again".to_owned()
        }
        _ => {
            return Error::from(error).context(format!("opening serial device {}", path.display()));
        }
    };
    Error::from(error).with_hint(hint).context(format!("opening serial device {}", path.display()))
}

/// The other processes that have `path` open, such as "picocom (pid 123)"; empty where the system
/// does not say.
pub(crate) fn holders(path: &Path) -> Vec<String> {
    let Ok(device) = path.canonicalize() else { return Vec::new() };
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.into_iter()
                .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == device))
        })
        .map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim())
        })
        .collect()
}
