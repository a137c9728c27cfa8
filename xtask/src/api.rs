//! `cargo xtask api`: the public API of each library, listed in a file beside its manifest, so that
//! a change is seen where it is reviewed.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{Run, check_interrupt};
use crate::progress::note;
use crate::workspace;

/// The name of a listing, in the folder of its crate.
const LISTING: &str = "api.txt";
/// The most lines of a difference that are shown for each crate.
const SHOWN: usize = 40;

/// Arguments of `cargo xtask api`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Packages, such as jumpstarter-text [default: all libraries]
    #[arg(value_name = "PACKAGE")]
    pub(crate) packages: Vec<String>,
    /// Write nothing; fail when a listing differs from the code
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = workspace::root();
    // A separate folder: dependencies are built again whenever `RUSTC_BOOTSTRAP` changes.
    let target = workspace::target().await?.join("api");
    let mut outdated = Vec::new();
    for folder in libraries(&root)? {
        check_interrupt()?;
        let package = package(&folder)?;
        if !arguments.packages.is_empty() && !arguments.packages.contains(&package) {
            continue;
        }
        let current = listing(&package, &target).await?;
        let file = folder.join(LISTING);
        let recorded = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {}", file.display()))?,
        };
        if recorded == current {
            continue;
        }
        note(format_args!("{package}\n{}", difference(&recorded, &current)));
        if !arguments.check {
            std::fs::write(&file, current)
                .with_context(|| format!("writing {}", file.display()))?;
        }
        outdated.push(package);
    }
    match outdated.len() {
        0 => note("every listing is as the code is"),
        count if !arguments.check => note(format_args!("{count} listings are written")),
        _ => bail!(
            "the public API of {} changed; review the change, then run `cargo xtask api`",
            outdated.join(", ")
        ),
    }
    Ok(())
}

/// The folders of `crates/` that hold a library.
fn libraries(root: &Path) -> Result<Vec<PathBuf>> {
    let crates = root.join("crates");
    let entries =
        std::fs::read_dir(&crates).with_context(|| format!("listing {}", crates.display()))?;
    let mut folders = Vec::new();
    for entry in entries {
        let folder = entry.with_context(|| format!("listing {}", crates.display()))?.path();
        // What a procedural macro takes is no item that could be listed.
        let is_macro = || {
            std::fs::read_to_string(folder.join("Cargo.toml"))
                .is_ok_and(|manifest| manifest.contains("proc-macro = true"))
        };
        if folder.join("src/lib.rs").is_file() && !is_macro() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The name of the package in `folder`.
fn package(folder: &Path) -> Result<String> {
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .with_context(|| format!("reading {}", manifest.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(name.with_context(|| format!("{} names no package", manifest.display()))?.to_owned())
}

/// The public items of a package with all of its features, one a line.
async fn listing(package: &str, target: &Path) -> Result<String> {
    // The pinned compiler writes JSON as a nightly of its version does, with this variable.
    let words = ["rustdoc", "--quiet", "--lib", "--all-features", "--package", package, "--"];
    let json = ["-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"];
    let rustdoc = Run::cargo().args(words).args(json).env("RUSTC_BOOTSTRAP", "1");
    let rustdoc = rustdoc.env("CARGO_TARGET_DIR", target);
    rustdoc.output().await.with_context(|| format!("documenting {package}"))?;
    let file = target.join("doc").join(package.replace('-', "_") + ".json");
    let api = public_api::Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The lines that went and came.
fn difference(recorded: &str, current: &str) -> String {
    let missing = |from: &str, within: &str, mark: char| -> Vec<String> {
        let within: std::collections::HashSet<_> = within.lines().collect();
        let lines = from.lines().filter(|line| !within.contains(line));
        lines.map(|line| format!("  {mark} {line}")).collect()
    };
    let mut lines = missing(recorded, current, '-');
    lines.extend(missing(current, recorded, '+'));
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("  … and {more} more"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_went_and_what_came() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), "  - a\n  + c");
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        assert!(difference("", &many).ends_with("\n  … and 10 more"));
    }

    #[test]
    fn every_library_has_a_name() {
        let folders = libraries(&workspace::root()).unwrap();
        assert!(folders.len() > 10, "{folders:?}");
        for folder in folders {
            assert!(package(&folder).unwrap().starts_with("jumpstarter"), "{folder:?}");
        }
    }
}
