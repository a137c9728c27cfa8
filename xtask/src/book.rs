//! `cargo xtask book`: builds the book, docs/, with mdBook.
use anyhow::{Context, Result};

use crate::process::Run;
use crate::progress::data;
use crate::setup::{self, Policy};
use crate::workspace;

/// Arguments of `cargo xtask book`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) policy: Policy,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    setup::ensure_cargo_program("mdbook", &["--no-default-features"], arguments.policy).await?;
    let out = workspace::target().await?.join("book");
    let build = Run::new("mdbook").arg("build").arg(workspace::root().join("docs"));
    build.arg("--dest-dir").arg(&out).show().await.context("building the book")?;
    data(out.join("index.html").display());
    Ok(())
}
