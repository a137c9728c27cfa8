//! The memory limit of decoders: a file of a few kilobytes can request gigabytes.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use jumpstarter_driver_core::{ByteSize, Error, Result};

use crate::compression::Compression;

/// The variable with the memory limit of a decoder.
const VARIABLE: &str = "JMP_DECODER_MEMORY";
/// As `zstd -d` has it; `xz -9` takes 65 MiB.
const DEFAULT: ByteSize = ByteSize::mebibytes(128);
/// The memory of all decoders of a process together, in multiples of the limit of one.
const AT_ONCE: u64 = 16;

static HELD: AtomicU64 = AtomicU64::new(0);

/// The memory limit of a decoder for its recent output (its window, or dictionary).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    limit: ByteSize,
}

impl Memory {
    /// At most `limit` for each decoder.
    pub fn limited(limit: ByteSize) -> Self {
        Self { limit }
    }

    /// The limit of this process: `JMP_DECODER_MEMORY`, or 128 MiB.
    ///
    /// # Errors
    /// `InvalidArgument` if the variable is not a size.
    pub fn from_env() -> Result<Self> {
        let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(Self::limited(DEFAULT));
        };
        let limit = value.to_string_lossy().parse().map_err(|error| {
            Error::invalid_argument(format!("{VARIABLE} holds no size")).with_source(error)
        })?;
        Ok(Self::limited(limit))
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(self, compression: Compression) -> Share {
        Share { memory: self, compression, held: 0 }
    }
}

/// What one decoder holds.
pub(crate) struct Share {
    memory: Memory,
    compression: Compression,
    held: u64,
}

impl Share {
    /// Holds `bytes`, or what it holds already where that is more.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.held);
        let limit = self.memory.limit.as_bytes();
        let refused = |others| {
            let (compression, limit) = (self.compression, self.memory.limit);
            Err(io::Error::other(TooMuch {
                compression,
                needed: ByteSize::bytes(bytes),
                limit,
                others,
            }))
        };
        if bytes > limit {
            return refused(None);
        }
        let before = HELD.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > limit.saturating_mul(AT_ONCE) {
            HELD.fetch_sub(more, Ordering::Relaxed);
            return refused(Some(ByteSize::bytes(before - self.held.min(before))));
        }
        self.held += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// A decoder needs more than it may take.
#[derive(Debug)]
pub(crate) struct TooMuch {
    compression: Compression,
    needed: ByteSize,
    limit: ByteSize,
    /// What other decoders hold, where it is they who leave too little.
    others: Option<ByteSize>,
}

impl TooMuch {
    pub(crate) fn into_error(self) -> Error {
        let mebibytes = self.needed.as_bytes().div_ceil(1 << 20);
        let hint = match (self.others, self.compression) {
            (Some(_), _) => "flash fewer images at the same time".to_owned(),
            (None, Compression::Zstd) => format!(
                "set {VARIABLE}={mebibytes}MiB in the environment of the program that decompresses (the exporter, \
                 mostly), or compress it with a smaller window: `zstd --long=27`"
            ),
            (None, _) => format!(
                "set {VARIABLE}={mebibytes}MiB in the environment of the program that decompresses (the exporter, \
                 mostly), or compress it with a smaller dictionary: `xz -9`"
            ),
        };
        Error::resource_exhausted(self.to_string()).with_hint(hint)
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compression, needed, limit, others } = self;
        match others {
            None => write!(
                f,
                "decompressing this {compression} file takes {needed} of memory; the limit is {limit}"
            ),
            Some(others) => write!(
                f,
                "decompressing this {compression} file takes {needed} of memory; other decoders hold {others} already"
            ),
        }
    }
}

impl std::error::Error for TooMuch {}
