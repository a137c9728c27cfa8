//! Exporter files whose drivers are hosted.

use std::path::{Path, PathBuf};

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::skip;
use serde_json::Value;

use super::in_time;

pub const MODULE: &str = include_str!("../lab_driver.py");

/// The interpreter with the packages, where there is one.
pub fn python() -> Option<PathBuf> {
    let folder = std::env::var_os("JUMPSTARTER_PYTHON_ENVIRONMENT");
    if folder.is_none() {
        skip("JUMPSTARTER_PYTHON_ENVIRONMENT names no environment: cargo xtask interop makes one");
    }
    folder.map(|folder| PathBuf::from(folder).join("bin/python"))
}

/// A folder with an exporter file, and the module `lab_driver` beside it.
pub struct Lab {
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(python: &Path, entries: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lab_driver.py"), MODULE).unwrap();
        let entries = entries.replace("FOLDER", folder.path().to_str().unwrap());
        let text = format!("python: {}\nexport:\n{entries}", python.display());
        std::fs::write(folder.path().join("lab.yaml"), text).unwrap();
        Self { folder }
    }

    /// Writes another module beside the file.
    pub fn write(&self, name: &str, module: &str) {
        std::fs::write(self.folder.path().join(name), module).unwrap();
    }

    pub fn config(&self) -> ExporterConfig {
        ExporterConfig::load(self.folder.path().join("lab.yaml"))
            .unwrap_or_else(|faults| panic!("{faults}"))
    }

    pub async fn open(&self) -> Device {
        in_time(self.config().open()).await.unwrap_or_else(|error| panic!("{}", error.report()))
    }

    pub async fn fails(&self) -> Error {
        in_time(self.config().open()).await.unwrap_err()
    }
}

pub async fn call(
    device: &Device,
    path: &str,
    method: &str,
    arguments: Vec<Value>,
) -> Result<Value> {
    in_time(device.call(path, method, arguments)).await
}
