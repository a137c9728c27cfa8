//! The Debian guest's root: a file with an ext4 file system, which the initramfs mounts.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::{Roots, system_network_settings};
use super::disk::tool;
use crate::progress::Step;

/// What is installed beside the essential packages: the kernel is that of the boot partition.
const PACKAGES: &str = "systemd-sysv,udev";
/// What is of no use to a test.
const LEFT_OUT: &[&str] = &["doc", "info", "locale", "man"];

/// Builds the file in `work` and returns its path.
pub(crate) async fn root(work: &Path, roots: &Roots, sources: &[PathBuf]) -> Result<PathBuf> {
    let step = Step::announce("Debian");
    let folder = work.join("debian");
    fs::create_dir(&folder)?;
    // In a namespace of a user, root is another user of the host.
    let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o1777);
    fs::set_permissions(&folder, open)?;
    let network = work.join("network.conf");
    fs::write(&network, system_network_settings().await?)?;
    let script = work.join("debian-customize");
    fs::write(&script, include_str!("../../guest/debian-customize"))?;
    let hook = format!("sh {} \"$1\" {}", script.display(), folder.display());
    let left_out =
        LEFT_OUT.iter().map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*"));
    tool(&roots.tools, work, "mmdebstrap")
        .args(["--variant=minbase", "--format=null", "--quiet"])
        .arg(format!("--include={PACKAGES}"))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg(format!("--aptopt={}", network.display()))
        .args(left_out)
        .arg(format!("--customize-hook={hook}"))
        // The sources name the release.
        .args(["", "-"])
        .args(sources)
        .output()
        .await
        .context("installing Debian into a folder (as root, or with namespaces of users)")?;
    step.done("");
    Ok(folder.join("root.img"))
}
