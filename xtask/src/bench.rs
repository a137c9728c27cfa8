//! `cargo xtask bench`: how fast, beside the tools that one would use instead.
use std::ffi::OsString;

use anyhow::Result;

use crate::guest::Arch;
use crate::process::Run;
use crate::program::{self, Profile};
use crate::setup::{self, Policy};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 when every target is met, else 1. The figures are also in target/bench.json."
)]
pub(crate) struct Arguments {
    /// What to measure: power-on, flash [default: all]
    #[arg(value_name = "WHAT")]
    what: Vec<String>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N")]
    turns: Option<u32>,
    /// Size of the flashed image once decompressed
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    size: String,
    #[command(flatten)]
    policy: Policy,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    setup::ensure_qemu(&[Arch::X86_64], arguments.policy).await?;
    let flash = ["build", "--release", "--package", "jumpstarter-driver-flasher", "--example", "flash_bench"];
    Run::cargo().args(flash).show().await?;
    let mut words: Vec<OsString> = arguments.what.into_iter().map(OsString::from).collect();
    words.extend(["--size".into(), arguments.size.into()]);
    if let Some(turns) = arguments.turns {
        words.extend(["--turns".into(), turns.to_string().into()]);
    }
    program::run("bench", Profile::Release, words).await
}
