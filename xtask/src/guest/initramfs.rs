//! The guest's root: busybox, the recipe's files and a few kernel modules, as a compressed cpio
//! archive.
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::cpio::Archive;
use super::modules::Kernel;
use super::{Arch, System};

/// Folders that exist from the start, beside those of files.
const FOLDERS: &[&str] = &["bin", "dev", "home", "proc", "root", "run", "sbin", "sys", "tmp"];

/// Builds the archive from an extracted busybox and kernel.
pub(crate) async fn build(
    system: System,
    arch: Arch,
    root: &Path,
    kernel: &Kernel,
) -> Result<Vec<u8>> {
    let busybox = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists());
    let busybox = busybox.context("the package busybox-static has no busybox")?;
    let mut files = vec![("bin/busybox".to_owned(), 0o755, fs::read(busybox)?)];
    for (path, mode, content) in system.files() {
        let content = content.replace("@CONSOLE@", arch.console()).into_bytes();
        files.push(((*path).to_owned(), *mode, content));
    }

    // Two lists of modules in the order of loading; the second continues the first.
    let (first, later) = system.modules();
    let now = kernel.closure(first).await?;
    let all = kernel.closure(&[first, later].concat()).await?;
    let order = |modules: &[super::modules::Module]| -> Vec<u8> {
        modules.iter().flat_map(|module| format!("{}.ko\n", module.name).into_bytes()).collect()
    };
    files.push(("lib/modules/now".to_owned(), 0o644, order(&now)));
    files.push(("lib/modules/later".to_owned(), 0o644, order(&all[now.len()..])));
    for module in all {
        files.push((format!("lib/modules/{}.ko", module.name), 0o644, module.content));
    }

    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&archive(&files)).context("compressing the initramfs")?;
    encoder.finish().context("compressing the initramfs")
}

/// Packs the files, with their folders before them.
fn archive(files: &[(String, u32, Vec<u8>)]) -> Vec<u8> {
    let mut folders: BTreeSet<&str> = FOLDERS.iter().copied().collect();
    for (path, ..) in files {
        folders.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    let mut archive = Archive::default();
    for folder in folders {
        archive.folder(folder);
    }
    for (path, mode, content) in files {
        archive.file(path, *mode, content);
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files() {
        let bytes = archive(&[("etc/acpi/PWRF/x".to_owned(), 0o755, b"!".to_vec())]);
        let at = |name: &str| {
            bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap()
        };
        assert!(at("etc\0") < at("etc/acpi\0"));
        assert!(at("etc/acpi\0") < at("etc/acpi/PWRF\0"));
        assert!(at("etc/acpi/PWRF\0") < at("etc/acpi/PWRF/x\0"));
    }
}
