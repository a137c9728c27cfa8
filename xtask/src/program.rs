//! Runs a program of the package `jumpstarter-tests`: those that need the drivers, which would slow
//! down xtask itself.
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Interrupted, Run};
use crate::progress::Step;

/// How long such a program may take.
const DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Builds the program `name`, to be there soon, and runs it in the workspace's root, with our
/// streams; fails when it does.
pub(crate) async fn run(name: &str, arguments: Vec<OsString>) -> Result<()> {
    let target = ["--package", "jumpstarter-tests", "--bin", name];
    let step = Step::announce(format!("building `{name}`"));
    Run::cargo()
        .arg("build")
        .args(target)
        .show()
        .await
        .with_context(|| format!("building `{name}`"))?;
    step.done("");
    finish(name, Run::cargo().args(["run", "--quiet"]).args(target).arg("--").args(arguments)).await
}

/// Runs a program of the workspace with our streams; fails when it does.
pub(crate) async fn finish(name: &str, run: Run) -> Result<()> {
    let run = run.deadline(DEADLINE);
    let child = run.spawn_shown().await?;
    let status = run.wait(&child).await?;
    match status.code() {
        Some(0) => Ok(()),
        // The terminal's Ctrl-C may reach it before us.
        Some(INTERRUPTED) => Err(Interrupted.into()),
        // It has said why.
        _ => bail!("`{name}`: {status}"),
    }
}
