//! What the tests share: images, the real compressors, folders and conditions.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Command, run_blocking};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// More than any step takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An image with all that matters: noise, text, and zeros in the middle and at the end.
pub(crate) fn image(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut image = Vec::with_capacity(length + 64 * 1024);
    while image.len() < length {
        let kind = image.len() / (64 * 1024) % 3;
        for _ in 0..64 * 1024 / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match kind {
                0 => image.extend_from_slice(&state.to_le_bytes()),
                1 => image.extend_from_slice(b"all work"),
                _ => image.extend_from_slice(&[0; 8]),
            }
        }
    }
    image.truncate(length);
    image
}

/// A folder with a file `disk.img` that holds "old".
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk.img"), "old").unwrap();
        Self { folder }
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.path("disk.img")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the disk.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// What lies in the folder besides the disk.
    pub(crate) fn others(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "disk.img");
        names.sort();
        names
    }

    /// Whether a flash is on its way here.
    pub(crate) fn partial(&self) -> bool {
        self.others().iter().any(|name| name.ends_with(".partial"))
    }

    /// The old image is there, and nothing of a failed flash.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(std::fs::read(self.disk()).unwrap(), b"old");
        assert!(!self.partial(), "left behind: {:?}", self.others());
    }
}

/// What the real tool makes of a file: `gzip -c image`.
pub(crate) fn tool(program: &str, arguments: &[&str], file: &Path) -> Vec<u8> {
    let output = file.with_extension("tool");
    // The tools write to their standard output; a shell keeps it out of the capture's bounds.
    let script = format!(
        "exec {program} {} -c < '{}' > '{}'",
        arguments.join(" "),
        file.display(),
        output.display()
    );
    run_blocking(Command::new("sh").args(["-c", &script]), DEADLINE).unwrap();
    let bytes = std::fs::read(&output).unwrap();
    std::fs::remove_file(output).unwrap();
    bytes
}

/// A source that yields `bytes` and then nothing, ever.
pub(crate) fn stuck(bytes: Vec<u8>) -> ImageSource {
    use futures_util::StreamExt;
    let stream =
        futures_util::stream::iter([Ok(bytes.into())]).chain(futures_util::stream::pending());
    ImageSource::stream(stream, None)
}
