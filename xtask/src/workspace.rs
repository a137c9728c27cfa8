//! Where this workspace is.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Run;

/// The workspace's root folder: of the checkout that is being built, also when the binary is run by
/// itself.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo puts what it builds, by its environment and configuration.
pub(crate) async fn target() -> Result<PathBuf> {
    let metadata = Run::cargo().args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = metadata.output().await.context("finding the target folder")?;
    let (_, rest) = text.rsplit_once("\"target_directory\":\"").context("cargo metadata")?;
    let (folder, _) = rest.split_once('"').context("cargo metadata")?;
    Ok(PathBuf::from(folder))
}
