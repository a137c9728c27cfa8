//! Finds a terminal device by its USB ids, serial number or product name, as `hwgrep://` of
//! pySerial does.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jumpstarter_driver_core::{Error, Result, suggest};
use regex::bytes::{Regex, RegexBuilder};

use crate::present;

/// What follows `hwgrep://`: a regular expression, and options behind `&`.
#[derive(Clone, Debug)]
pub struct DevicePattern {
    written: String,
    expression: Regex,
    /// Which of several matches, from 0.
    index: usize,
    skip_busy: bool,
}

impl PartialEq for DevicePattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for DevicePattern {}

impl FromStr for DevicePattern {
    type Err = Error;

    /// `InvalidArgument` for a wrong expression or option.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid_argument(why);
        let mut parts = text.split('&');
        let expression = parts.next().unwrap_or_default();
        let (mut index, mut skip_busy) = (0, false);
        for option in parts {
            match option.split_once('=').unwrap_or((option, "")) {
                ("n", number) => {
                    let number = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    index = number.ok_or_else(|| wrong("`n` is a number from 1".to_owned()))?;
                }
                ("skip_busy", "") => skip_busy = true,
                _ => return Err(wrong(format!("unknown option `{option}`"))),
            }
        }
        if expression.is_empty() {
            return Err(wrong("it has no expression".to_owned()));
        }
        let expression =
            RegexBuilder::new(expression).case_insensitive(true).unicode(false).build();
        let expression = expression.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { written: text.to_owned(), expression, index, skip_busy })
    }
}

impl DevicePattern {
    /// The text that it was read from.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The device that matches now. Blocks.
    ///
    /// # Errors
    /// `NotFound`, with what there is, if none does.
    pub(crate) fn find(&self) -> Result<PathBuf> {
        self.find_in(Path::new("/sys/class/tty"), Path::new("/dev"))
    }

    fn find_in(&self, class: &Path, devices: &Path) -> Result<PathBuf> {
        let mut found = found_in(class, devices);
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let matching = found.iter().filter(|device| {
            let texts = [device.path.to_string_lossy().into_owned()];
            let mut texts = texts.iter().chain([&device.product, &device.ids]);
            texts.any(|text| self.expression.is_match(text.as_bytes()))
        });
        let mut free =
            matching.filter(|device| !self.skip_busy || present::holders(&device.path).is_empty());
        if let Some(device) = free.nth(self.index) {
            return Ok(device.path.clone());
        }
        let known: Vec<String> = found.iter().map(|device| device.to_string()).collect();
        let error = Error::not_found(format!("no serial device matches hwgrep://{}", self.written));
        Err(error.with_hint(match known.is_empty() {
            true => "is it plugged in? No serial device was found".to_owned(),
            false => {
                format!(
                    "is it plugged in? Found: {}",
                    suggest::list(known.iter().map(String::as_str))
                )
            }
        }))
    }
}

/// A terminal device and what it says of itself.
struct Found {
    path: PathBuf,
    product: String,
    /// Such as `USB VID:PID=0403:6001 SER=FT4X2 LOCATION=1-1.2`.
    ids: String,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.path.display(), self.product, self.ids)
    }
}

/// The terminal devices that have hardware behind them.
fn found_in(class: &Path, devices: &Path) -> Vec<Found> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let hardware = entry.path().join("device").canonicalize().ok()?;
        let path = devices.join(entry.file_name());
        let usb = hardware.ancestors().find(|folder| folder.join("idVendor").is_file());
        let Some(usb) = usb else {
            return Some(Found { path, product: "n/a".to_owned(), ids: "n/a".to_owned() });
        };
        let read = |name: &str| {
            let text = fs::read_to_string(usb.join(name)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let id = |name| read(name).unwrap_or_default().to_uppercase();
        let serial = read("serial").map(|serial| format!(" SER={serial}")).unwrap_or_default();
        let place = usb.file_name().unwrap_or_default().to_string_lossy();
        let ids =
            format!("USB VID:PID={}:{}{serial} LOCATION={place}", id("idVendor"), id("idProduct"));
        Some(Found { path, product: read("product").unwrap_or_else(|| "n/a".to_owned()), ids })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// As /sys has it: two adapters of one kind, and a port of the board.
    fn machine(folder: &Path) -> (PathBuf, PathBuf) {
        let class = folder.join("class/tty");
        fs::create_dir_all(&class).unwrap();
        for (name, place, serial) in [("ttyUSB0", "1-1.2", "FT4X2"), ("ttyUSB1", "1-1.3", "FT9Y7")]
        {
            let usb = folder.join("devices/usb1").join(place);
            let hardware = usb.join(format!("{place}:1.0")).join(name);
            fs::create_dir_all(&hardware).unwrap();
            for (file, text) in [
                ("idVendor", "0403"),
                ("idProduct", "6001"),
                ("product", "TTL232R"),
                ("serial", serial),
            ] {
                fs::write(usb.join(file), format!("{text}\n")).unwrap();
            }
            fs::create_dir_all(class.join(name)).unwrap();
            symlink(&hardware, class.join(name).join("device")).unwrap();
        }
        fs::create_dir_all(folder.join("devices/serial8250")).unwrap();
        fs::create_dir_all(class.join("ttyS0")).unwrap();
        symlink(folder.join("devices/serial8250"), class.join("ttyS0/device")).unwrap();
        // A console of the kernel has no hardware.
        fs::create_dir_all(class.join("tty1")).unwrap();
        (class, PathBuf::from("/dev"))
    }

    #[test]
    fn ids_serial_numbers_products_places_and_names_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (class, devices) = machine(folder.path());
        let find = |text: &str| {
            let pattern: DevicePattern = text.parse().unwrap();
            pattern.find_in(&class, &devices).map(|path| path.display().to_string())
        };
        for (text, device) in [
            ("0403:6001", "/dev/ttyUSB0"),
            ("0403:6001&n=2", "/dev/ttyUSB1"),
            ("VID:PID=0403:6001 SER=FT9", "/dev/ttyUSB1"),
            ("ft9y7", "/dev/ttyUSB1"),
            ("ttl232r", "/dev/ttyUSB0"),
            ("LOCATION=1-1.3$", "/dev/ttyUSB1"),
            ("ttyS0", "/dev/ttyS0"),
            ("FT4X2&skip_busy", "/dev/ttyUSB0"),
        ] {
            assert_eq!(find(text).unwrap(), device, "{text}");
        }
        for text in ["tty1$", "FT0", "0403:6001&n=3"] {
            let error = find(text).unwrap_err();
            let hint = error.hint().unwrap();
            assert!(hint.contains("SER=FT4X2") && !hint.contains("/dev/tty1"), "{hint}");
        }
    }

    #[test]
    fn wrong_patterns_say_why() {
        for (text, why) in [
            ("", "no expression"),
            ("a(", "unclosed group"),
            ("a&n=0", "from 1"),
            ("a&m", "unknown option `m`"),
        ] {
            let error = text.parse::<DevicePattern>().unwrap_err().report();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
