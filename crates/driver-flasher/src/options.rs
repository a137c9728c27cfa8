//! The options of writing an image, and its report.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_codec::Compression;
use jumpstarter_driver_core::Result;

/// How to write an image: by default any compression, without limits.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub(crate) compression: Option<Compression>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) inspect: Option<Inspect>,
    pub(crate) verify: bool,
    /// Whether the destination has to be there: it is a device that may be removed.
    pub(crate) must_exist: bool,
}

/// A new file, before it replaces the old one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NewFile<'a> {
    /// The file, open for reading and writing.
    pub file: &'a File,
    /// Its name for now, beside the old one, for other programs.
    pub path: &'a Path,
}

/// A function that inspects a new file.
#[derive(Clone)]
pub(crate) struct Inspect(Arc<Look>);

impl Inspect {
    pub(crate) fn look(&self, new: NewFile<'_>) -> Result<()> {
        (self.0)(new)
    }
}

type Look = dyn Fn(NewFile<'_>) -> Result<()> + Send + Sync;

impl fmt::Debug for Inspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspect")
    }
}

impl WriteOptions {
    /// Sets the compression, instead of detecting it from the first bytes. [`Compression::Raw`]
    /// keeps a compressed file unchanged.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Limits how long the source may deliver nothing. A local file is not timed.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = Some(timeout);
        self
    }

    /// Inspects the new file, complete and open for writing, before it replaces the old one: an
    /// error keeps the old one. It runs on a thread that may block, and not for a block device,
    /// which is written in place.
    #[must_use]
    pub fn inspect(
        mut self,
        look: impl Fn(NewFile<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.inspect = Some(Inspect(Arc::new(look)));
        self
    }

    /// Reads the written image back, past the page cache, before the flash succeeds: a difference
    /// fails with `DataLoss` and its offset. A file keeps its old content then. A driver's medium
    /// verifies itself.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Limits the decompressed size, in bytes. In any case a file's file system keeps a reserve: a
    /// twentieth of its size, at most 1 GiB.
    #[must_use]
    pub fn limit_bytes(mut self, limit: u64) -> Self {
        self.limit_bytes = Some(limit);
        self
    }
}

/// What was read and written, in which time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteReport {
    /// Bytes that the source delivered.
    pub bytes_read: u64,
    /// Bytes of the image, decompressed, holes included.
    pub bytes_written: u64,
    /// The SHA-256 of the delivered bytes, if the source requested it.
    pub sha256: Option<String>,
    /// The compression of the source.
    pub compression: Compression,
    /// From the call to the renamed and synced file.
    pub elapsed: Duration,
}
