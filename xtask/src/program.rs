//! Runs a program of the package `jumpstarter-tests`: those that need the drivers, which would slow down xtask itself.
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Interrupted, Run};
use crate::progress::Step;

/// How long such a program may take.
const DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Soon.
    Debug,
    /// To be quick.
    Release,
}

/// Builds the program `name` and runs it in the workspace's root, with our streams; fails when it does.
pub(crate) async fn run(name: &str, profile: Profile, arguments: Vec<OsString>) -> Result<()> {
    let release: &[&str] = if profile == Profile::Release { &["--release"] } else { &[] };
    let target = ["--package", "jumpstarter-tests", "--bin", name];
    let step = Step::announce(format!("building `{name}`"));
    Run::cargo()
        .arg("build")
        .args(release)
        .args(target)
        .show()
        .await
        .with_context(|| format!("building `{name}`"))?;
    step.done("");
    let run = Run::cargo().args(["run", "--quiet"]).args(release).args(target).arg("--").args(arguments);
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
