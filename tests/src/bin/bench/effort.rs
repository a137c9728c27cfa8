//! How much work goes into a figure.

use jumpstarter_driver_core::prelude::*;

/// What is sent in one turn, and how many turns there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often each figure is taken, if it was said.
    pub(crate) turns: Option<u32>,
    /// The size of images, decompressed.
    pub(crate) size: ByteSize,
    /// Whether only to see that everything works.
    pub(crate) quick: bool,
}

impl Effort {
    /// Turns, where `usual` of them do.
    pub(crate) fn turns(&self, usual: u32) -> u32 {
        self.turns.unwrap_or(if self.quick { 1 } else { usual })
    }

    /// Calls in one turn by a client in Rust.
    pub(crate) fn calls(&self) -> u64 {
        if self.quick { 1600 } else { 32_000 }
    }

    /// Calls in one turn by a client that is, or meets, Python.
    pub(crate) fn slow_calls(&self) -> u64 {
        if self.quick { 160 } else { 3200 }
    }

    /// Bytes that go there and back in one turn.
    pub(crate) fn echo(&self) -> u64 {
        self.size.as_bytes() / 2
    }
}
