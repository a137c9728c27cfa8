//! `cargo xtask tidy`: house rules that no lint knows, checked on every file that git tracks or
//! would track.
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process::Run;
use crate::progress::note;
use crate::workspace;

mod book;
mod drivers;
mod prose;
mod rules;
mod words;

/// Arguments of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the task.
pub(crate) async fn run(_: Arguments) -> Result<()> {
    let root = workspace::root();
    let names = tracked(&root).await?;
    let mut complaints = Vec::new();
    for name in &names {
        // What is not text has no lines to complain about; what git still tracks may be deleted
        // already.
        if let Ok(text) = std::fs::read_to_string(root.join(name)) {
            complaints.extend(rules::check(name, &text));
            complaints.extend(words::check(name, &text));
        }
    }
    complaints.extend(drivers::check(&root)?);
    complaints.extend(book::check(&root, &names)?);
    for complaint in &complaints {
        note(complaint);
    }
    match complaints.len() {
        0 => {
            note(format_args!("{} files are tidy", names.len()));
            Ok(())
        }
        count => bail!("{count} complaints"),
    }
}

/// The files that are tracked, or would be after `git add`, relative to the root.
async fn tracked(root: &Path) -> Result<Vec<String>> {
    let list = Run::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .folder(root);
    let list =
        list.output().await.context("listing the files; this has to run in a git checkout")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
