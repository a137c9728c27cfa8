//! Block devices: opened for this flash alone, and written in place.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::ByteSize;
use jumpstarter_driver_core::{Error, Result, ResultExt};

/// A block device that nothing else uses: no mount of it or of a partition, no swap, no mapping.
pub(crate) struct Device {
    pub(crate) file: File,
    size: u64,
}

impl Device {
    /// Opens `path`; `None` if that is not a block device. `FailedPrecondition` if it is in use.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let metadata = match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if !metadata.file_type().is_block_device() {
            return Ok(None);
        }
        let doing = "opening the block device";
        // For a block device O_EXCL means: fail with EBUSY if anything in the kernel holds it.
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path);
        let mut file = opened.map_err(|error| match error.kind() {
            ErrorKind::ResourceBusy => in_use(path, metadata.rdev()),
            _ => Error::from(error).context(doing),
        })?;
        let size = file.seek(SeekFrom::End(0)).context(doing)?;
        Ok(Some(Self { file, size }))
    }

    /// Refuses an image of at least `length` bytes that does not fit.
    pub(crate) fn check_room(&self, length: u64) -> Result<()> {
        if length <= self.size {
            return Ok(());
        }
        let (length, size) = (ByteSize::bytes(length), ByteSize::bytes(self.size));
        let message = format!("the image needs {length}, and the device has {size}");
        Err(Error::resource_exhausted(message)
            .with_hint("flash a smaller image, or use a larger device"))
    }
}

/// The size of a block device in bytes, without opening it: that may take long, or fail.
pub(crate) fn device_size(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then_some(())?;
    let file = format!("/sys/dev/block/{}/size", dev(metadata.rdev()));
    let sectors: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    // Whatever the size of the device's own sectors.
    sectors.checked_mul(512)
}

fn in_use(path: &Path, device: u64) -> Error {
    let message = format!("{} is in use; nothing was written", path.display());
    let uses = uses(device);
    let hint = match uses.is_empty() {
        true => "find its user with `lsblk` or `fuser -v`, and stop it".to_owned(),
        false => format!("release it first: {}", uses.join(", ")),
    };
    Error::failed_precondition(message).with_hint(hint)
}

/// What uses the device with this number, or one of its partitions: for the message alone.
fn uses(device: u64) -> Vec<String> {
    let mut uses = Vec::new();
    for (number, folder) in with_partitions(device) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let is_it = fields.next() == Some(number.as_str());
            Some(format!("it is mounted at {}", fields.nth(1).filter(|_| is_it)?))
        });
        uses.extend(mounts);
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let is_it = |path: &&str| std::fs::metadata(path).is_ok_and(|it| dev(it.rdev()) == number);
        uses.extend(swaps.filter(is_it).map(|path| format!("the swap space {path} is on it")));
        let holders = std::fs::read_dir(folder.join("holders")).into_iter().flatten().flatten();
        uses.extend(
            holders.map(|holder| format!("{} holds it", holder.file_name().to_string_lossy())),
        );
    }
    uses
}

/// `MAJOR:MINOR` and the folder in sysfs of the device and its partitions.
fn with_partitions(device: u64) -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(format!("/sys/dev/block/{}", dev(device)));
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let partitions = entries.filter(|entry| entry.path().join("partition").exists());
    let partitions = partitions.filter_map(|entry| {
        let number = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        Some((number.trim().to_owned(), entry.path()))
    });
    let partitions: Vec<_> = partitions.collect();
    [(dev(device), folder)].into_iter().chain(partitions).collect()
}

fn dev(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}
