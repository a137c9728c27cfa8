//! Runs an image as the pod of an ExporterSet: by an OCI runtime, with a sidecar that has QEMU, for
//! one lease of a controller.
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::pod;
use crate::process::{Run, find_program};
use crate::progress::{Step, note};
use crate::workspace;

/// The pod's life; everything that it starts and mounts ends with its namespaces.
const SCRIPT: &str = include_str!("trial.sh");

/// What reads, runs and tests the image, with Debian's packages.
const NEEDS: [(&str, &str); 5] = [
    ("skopeo", "skopeo"),
    ("crun", "crun"),
    ("unshare", "util-linux"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
];

/// Needs root and these programs.
pub(super) async fn run(archive: &Path) -> Result<()> {
    let missing = NEEDS.iter().filter(|(program, _)| find_program(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        bail!("--try needs more programs: `apt-get install {}`", missing.join(" "));
    }
    let controller = ["--package", "jumpstarter-test-controller", "--bin", "test-controller"];
    let step = Step::announce("building the test controller");
    Run::cargo().arg("build").args(controller).show().await?;
    step.done("");
    let controller = workspace::target().await?.join("debug/test-controller");

    let step = Step::announce("running it as a pod");
    let work = tempfile::tempdir().context("creating a temporary folder")?;
    pod::prepare(archive, work.path()).await?;
    let script = work.path().join("trial.sh");
    std::fs::write(&script, SCRIPT).context("writing the script of the trial")?;
    let said = Run::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("sh")
        .args([&script, work.path(), &controller])
        .deadline(Duration::from_secs(900))
        .output()
        .await?;
    for line in said.lines() {
        note(format_args!("  {line}"));
    }
    step.done("");
    Ok(())
}
