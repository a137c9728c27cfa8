//! `cargo xtask faults`: breaks things at random while a device is used, and checks what must hold
//! all the same.
use std::ffi::OsString;

use anyhow::Result;

use crate::guest::Arch;
use crate::program;
use crate::progress::note;
use crate::setup::{self, Policy};

/// Arguments of `cargo xtask faults`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All options of the campaign itself: `cargo xtask faults -- --help`.

Exit code: 0 when every promise held, else 1. The figures are also in target/faults.json.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    policy: Policy,
    /// Options of the campaign, such as --time 10m, --seed N, --fault kill-exporter
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    setup::ensure_qemu(&[Arch::X86_64], arguments.policy).await?;
    if let Err(error) = setup::ensure_bindfs(arguments.policy).await {
        crate::process::check_interrupt()?;
        note(format_args!("without bindfs, no file system hangs: {error:#}"));
    }
    program::run("faults", arguments.options).await
}
