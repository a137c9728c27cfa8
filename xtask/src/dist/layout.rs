//! The files of a release, where they are installed.
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::Run;

/// Where the completion script of each shell is installed, for a program.
fn completions(shell: &str, program: &str) -> String {
    match shell {
        "bash" => format!("usr/share/bash-completion/completions/{program}"),
        "zsh" => format!("usr/share/zsh/vendor-completions/_{program}"),
        _ => format!("usr/share/fish/vendor_completions.d/{program}.fish"),
    }
}

/// Writes the files below `tree`, as they lie below `/`.
pub(super) async fn lay_out(root: &Path, program: &Path, tree: &Path) -> Result<()> {
    let bin = tree.join("usr/bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    copy(program, &bin.join("jmp"), 0o755)?;
    symlink("jmp", bin.join("j")).context("linking j to jmp")?;
    for shell in ["bash", "zsh", "fish"] {
        for program in ["jmp", "j"] {
            let script = Run::new(bin.join(program)).args(["completions", shell]).output().await?;
            write(&tree.join(completions(shell, program)), script.as_bytes())?;
        }
    }
    let manual = tree.join("usr/share/man/man1");
    std::fs::create_dir_all(&manual).with_context(|| format!("creating {}", manual.display()))?;
    Run::new(bin.join("jmp")).arg("manual").arg(&manual).output().await?;
    let pages = std::fs::read_dir(&manual).context("listing the manual pages")?;
    let pages: Vec<_> = pages.map(|page| Ok(page?.path())).collect::<Result<_>>()?;
    Run::new("gzip").arg("-9n").args(pages).output().await.context("compressing the manual")?;
    let unit = "jumpstarter-exporter@.service";
    let text = std::fs::read_to_string(root.join("examples/exporter").join(unit))
        .with_context(|| format!("reading {unit}"))?;
    let text = text.replace("/usr/local/bin/", "/usr/bin/");
    write(&tree.join("usr/lib/systemd/system").join(unit), text.as_bytes())?;
    copy(&root.join("LICENSE"), &tree.join("usr/share/doc/jumpstarter-rs/copyright"), 0o644)?;
    copy(&root.join("CHANGELOG.md"), &tree.join("usr/share/doc/jumpstarter-rs/CHANGELOG.md"), 0o644)
}

pub(crate) fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    write(to, &bytes)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", to.display()))
}

/// Writes a file that all may read, and the folders above it.
pub(crate) fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    std::fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o644))
        .with_context(|| format!("setting the mode of {}", to.display()))
}
