//! The files of the image.
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use crate::dist::layout::{copy, write};
use crate::process::Run;

/// Where the programs are: an ExporterSet's pod copies `jumpstarter-exec` from there.
pub(super) const PROGRAMS: &str = "jumpstarter/bin";

/// The user of an exporter's container.
const PASSWD: &str =
    "root:x:0:0:root:/:/bin/sh\njumpstarter:x:65532:65532:jumpstarter:/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\njumpstarter:x:65532:\n";

/// Where the files come from.
pub(super) struct Sources<'a> {
    /// The checkout.
    pub(super) root: &'a Path,
    pub(super) programs: &'a Path,
    pub(super) busybox: &'a Path,
    pub(super) certificates: &'a Path,
}

/// Writes the files below `tree`, as they lie below `/`.
pub(super) async fn lay_out(sources: &Sources<'_>, tree: &Path) -> Result<()> {
    let programs = tree.join(PROGRAMS);
    for program in ["jmp", "jumpstarter-exec"] {
        copy(&sources.programs.join(program), &programs.join(program), 0o755)?;
    }
    link("jmp", &programs.join("j"))?;

    let busybox = tree.join("bin/busybox");
    copy(sources.busybox, &busybox, 0o755)?;
    // Of the file itself: another one may have other tools.
    let tools =
        Run::new(&busybox).arg("--list").output().await.context("listing busybox's tools")?;
    for tool in tools.split_whitespace().filter(|tool| *tool != "busybox") {
        link("busybox", &tree.join("bin").join(tool))?;
    }
    copy(sources.certificates, &tree.join("etc/ssl/certs/ca-certificates.crt"), 0o644)?;
    write(&tree.join("etc/passwd"), PASSWD.as_bytes())?;
    write(&tree.join("etc/group"), GROUP.as_bytes())?;
    write(&tree.join("etc/nsswitch.conf"), b"hosts: files dns\n")?;
    let docs = tree.join("usr/share/doc");
    copy(&sources.root.join("LICENSE"), &docs.join("jumpstarter-rs/copyright"), 0o644)?;
    for package in ["busybox-static", "ca-certificates"] {
        let copyright = Path::new("/usr/share/doc").join(package).join("copyright");
        // Absent where the files do not come from Debian's packages.
        if copyright.exists() {
            copy(&copyright, &docs.join(package).join("copyright"), 0o644)?;
        }
    }
    for folder in ["etc/jumpstarter/exporters", "tmp", "var/tmp", "shared", "proc", "sys", "dev"] {
        make_folder(&tree.join(folder), if folder.ends_with("tmp") { 0o1777 } else { 0o755 })?;
    }
    folders_are_readable(tree)
}

fn link(target: &str, at: &Path) -> Result<()> {
    symlink(target, at).with_context(|| format!("linking {}", at.display()))
}

fn make_folder(at: &Path, mode: u32) -> Result<()> {
    std::fs::create_dir_all(at).with_context(|| format!("creating {}", at.display()))?;
    set_mode(at, mode)
}

fn set_mode(at: &Path, mode: u32) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(at, mode)
        .with_context(|| format!("setting the mode of {}", at.display()))
}

/// Folders that were made on the way have the mode of this process's mask.
fn folders_are_readable(folder: &Path) -> Result<()> {
    let doing = || format!("listing {}", folder.display());
    if !folder.ends_with("tmp") {
        set_mode(folder, 0o755)?;
    }
    for entry in std::fs::read_dir(folder).with_context(doing)? {
        let entry = entry.with_context(doing)?;
        if entry.file_type().with_context(doing)?.is_dir() {
            folders_are_readable(&entry.path())?;
        }
    }
    Ok(())
}
