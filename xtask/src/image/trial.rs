//! Runs an image as a pod does: user 65532 without rights, a read-only root, process 1, a sidecar.
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Run;
use crate::progress::{Step, note};

/// The containers' part; everything that it starts and mounts ends with its namespaces.
const SCRIPT: &str = include_str!("trial.sh");

/// Needs root, QEMU, and the programs of util-linux.
pub(super) async fn run(archive: &Path) -> Result<()> {
    let step = Step::announce("running it as a pod");
    let work = tempfile::tempdir().context("creating a temporary folder")?;
    let archive = std::path::absolute(archive).context("finding the archive")?;
    let said = Run::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", SCRIPT, "trial"])
        .args([&archive, work.path()])
        .deadline(Duration::from_secs(600))
        .output()
        .await?;
    for line in said.lines() {
        note(format_args!("  {line}"));
    }
    step.done("");
    Ok(())
}
