//! The faults.

use std::fmt;

use clap::ValueEnum;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::FuseMount;

use crate::memory_disk;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL for the exporter
    KillExporter,
    /// SIGTERM for the exporter
    TerminateExporter,
    /// SIGKILL for QEMU
    KillQemu,
    /// SIGKILL for the client
    KillClient,
    /// SIGINT for the client
    InterruptClient,
    /// SIGKILL for the guardian of a child
    KillGuardian,
    /// SIGSTOP for the exporter, SIGCONT later
    FreezeExporter,
    /// SIGSTOP for QEMU, SIGCONT later
    FreezeQemu,
    /// SIGSTOP for the client, SIGCONT later
    FreezeClient,
    /// SIGSTOP for the guardian of a child, SIGCONT later
    FreezeGuardian,
    /// The disk with the images and the temporary folder is full
    FullDisk,
    /// Somebody removes the exporter's folders of temporary files
    RemoveFolders,
    /// The file system of the medium answers no more, for a while
    HangingFiles,
    /// The same, and SIGTERM for the exporter meanwhile
    HangingEnd,
}

impl Fault {
    /// Those of `asked`, of all if none is, that can be made here. Those that cannot are named, and
    /// why.
    ///
    /// # Errors
    /// FailedPrecondition: none is possible.
    pub(crate) fn possible(asked: &[Self]) -> Result<Vec<Self>> {
        let all = if asked.is_empty() { Self::value_variants() } else { asked };
        let mut possible = Vec::new();
        for fault in all {
            match fault.obstacle() {
                None => possible.push(*fault),
                Some(why) => println!(
                    "not possible here: {fault}: {}",
                    jumpstarter_text::line(&why.to_string())
                ),
            }
        }
        if possible.is_empty() {
            return Err(Error::failed_precondition("no fault is possible here"));
        }
        Ok(possible)
    }

    fn obstacle(self) -> Option<String> {
        match self {
            Self::FullDisk => memory_disk::obstacle(),
            Self::HangingFiles | Self::HangingEnd => FuseMount::obstacle(),
            _ => None,
        }
    }

    /// Whether it ends the exporter, in order or not.
    pub(crate) fn ends_exporter(self) -> bool {
        matches!(self, Self::KillExporter | Self::TerminateExporter | Self::HangingEnd)
    }

    /// Whether it needs a file system that can hang.
    pub(crate) fn hangs(self) -> bool {
        matches!(self, Self::HangingFiles | Self::HangingEnd)
    }

    /// Whether it ends the client.
    pub(crate) fn ends_client(self) -> bool {
        matches!(self, Self::KillClient | Self::InterruptClient)
    }

    /// Whether the machine may end by it.
    pub(crate) fn ends_machine(self) -> bool {
        self.ends_exporter()
            || matches!(self, Self::KillQemu | Self::KillGuardian | Self::RemoveFolders)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::tally::value_name(*self))
    }
}
