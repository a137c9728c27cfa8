//! What is done while a fault strikes.

use std::fmt;

use clap::ValueEnum;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Action {
    /// Write a file-flasher's medium
    FlashMedium,
    /// Write the machine's root disk
    FlashRoot,
    /// Power the machine on
    Boot,
    /// Let the machine run
    Run,
    /// Power the machine off
    Stop,
    /// Read the medium
    DumpMedium,
    /// Read the root disk
    DumpRoot,
}

impl Action {
    /// Those that were asked for; all if none was.
    pub(crate) fn chosen(asked: &[Self]) -> Vec<Self> {
        if asked.is_empty() { Self::value_variants().to_vec() } else { asked.to_vec() }
    }

    /// Whether it needs a machine that runs.
    pub(crate) fn needs_running(self) -> bool {
        matches!(self, Self::Run | Self::Stop)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::tally::value_name(*self))
    }
}
