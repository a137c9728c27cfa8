//! `cargo xtask doctor`: what this host can do, what is missing, and what to do about it.
use std::ffi::OsString;

use anyhow::Result;
use clap::ValueEnum;

use crate::guest::Arch;
use crate::program;

/// Arguments of `cargo xtask doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 when machines of the architecture can run here, else 1.")]
pub(crate) struct Arguments {
    /// Architectures whose machines have to run here; what is missing for the others is said, and
    /// fine
    #[arg(long = "arch", value_enum, default_values_t = [Arch::X86_64])]
    arches: Vec<Arch>,
    /// How to print; json is one object on standard output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each finding
    #[default]
    Text,
    /// One object
    Json,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut words: Vec<OsString> = Vec::new();
    for arch in arguments.arches {
        words.extend(["--arch".into(), arch.name().into()]);
    }
    if arguments.output == Output::Json {
        words.extend(["--output".into(), "json".into()]);
    }
    program::run("doctor", words).await
}
