//! The files of a release as an archive, as a Debian package, and the list of their components.
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::write;
use crate::process::Run;
use crate::progress::Step;

/// Packs `tree` into a compressed tar archive, owned by root, with the time of the commit.
pub(super) async fn archive(tree: &Path, file: &Path, when: &str) -> Result<()> {
    let ownership = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
    Run::new("tar")
        .args(ownership)
        .arg(format!("--mtime=@{when}"))
        .args(["--use-compress-program", "gzip -9n", "-C"])
        .arg(tree)
        .arg("-cf")
        .arg(file)
        // Not `.`: unpacking it at `/` would change the rights of `/`.
        .arg("usr")
        .output()
        .await
        .with_context(|| format!("packing {}", file.display()))
        .map(drop)
}

/// Makes a Debian package of `tree` in `out`.
pub(super) async fn debian(tree: &Path, out: &Path, version: &str, when: &str) -> Result<()> {
    let step = Step::start("packing for Debian");
    let control = format!(
        "Package: jumpstarter-rs\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: The Jumpstarter authors <noreply@jumpstarter.dev>\n\
         Section: devel\n\
         Priority: optional\n\
         Recommends: qemu-system-x86, qemu-utils, ovmf\n\
         Homepage: https://jumpstarter.dev\n\
         Description: drives real and virtual devices for tests\n \
         The commands jmp and j: power, flash and talk to a device, on this host or another.\n"
    );
    write(&tree.join("DEBIAN/control"), control.as_bytes())?;
    Run::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(tree)
        .arg(out)
        .env("SOURCE_DATE_EPOCH", when)
        .output()
        .await
        .context("packing for Debian")?;
    step.done("");
    Ok(())
}

/// Writes the list of components (CycloneDX), of the program's dependencies with their licences.
pub(super) async fn sbom(root: &Path, when: &str, tree: &Path) -> Result<()> {
    let name = "jumpstarter.cdx";
    Run::cargo()
        .folder(root)
        .args(["cyclonedx", "--quiet", "--format", "json", "--override-filename", name])
        .args(["--target", super::TARGET, "--manifest-path", "crates/cli/Cargo.toml"])
        .env("SOURCE_DATE_EPOCH", when)
        .output()
        .await
        .context("listing the components")?;
    // It writes one beside each manifest of the workspace.
    let manifests = Run::new("git").args(["ls-files", "--", "*Cargo.toml"]).folder(root);
    let manifests = manifests.output().await.context("listing the manifests")?;
    let mut found = None;
    for folder in manifests.lines().filter_map(|manifest| Path::new(manifest).parent()) {
        let file = root.join(folder).join(format!("{name}.json"));
        if let Ok(text) = std::fs::read_to_string(&file) {
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            if folder == Path::new("crates/cli") {
                found = Some(text);
            }
        }
    }
    let text = found.context("cargo-cyclonedx wrote no list for the cli")?;
    let text = text.replace(&root.display().to_string(), "/jumpstarter");
    write(&tree.join("usr/share/doc/jumpstarter-rs/sbom.cdx.json"), text.as_bytes())
}

/// Writes and returns the SHA-256 digests of the files in `out`.
pub(super) async fn sums(out: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(out).with_context(|| format!("listing {}", out.display()))? {
        names.push(entry.context("listing the files of the release")?.file_name());
    }
    names.sort();
    let sums = Run::new("sha256sum").args(&names).folder(out).output().await?;
    write(&out.join("SHA256SUMS"), sums.as_bytes())?;
    Ok(sums)
}
