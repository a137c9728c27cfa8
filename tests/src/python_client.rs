//! The real `jmp` in Python as the client of a controller.
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Command, Sink};
use tempfile::TempDir;

/// A folder of configurations with one client, which is the current one.
#[derive(Debug)]
pub struct PythonClient {
    bin: PathBuf,
    folder: TempDir,
}

impl PythonClient {
    /// Writes a client's file. `environment` is that of
    /// [`python_environment`](crate::python_exporter::python_environment).
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(environment: &Path, file: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("clients"))?;
        std::fs::write(folder.path().join("clients/lab.yaml"), file)?;
        let current = "apiVersion: jumpstarter.dev/v1alpha1\nkind: UserConfig\nconfig: {current-client: lab}\n";
        std::fs::write(folder.path().join("config.yaml"), current)?;
        Ok(Self { bin: environment.join("bin"), folder })
    }

    /// `jmp` with these words, as the client.
    pub fn jmp(&self, words: &[&str]) -> Command {
        let mut path = self.bin.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Command::new(self.bin.join("jmp"))
            .args(words)
            .env("PATH", path)
            .env("JMP_CLIENT_CONFIG_HOME", self.folder.path())
            .env("NONINTERACTIVE", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("JUMPSTARTER_HOST")
            .env_remove("JMP_LEASE")
            .stdout(Sink::Tail(64 * 1024))
            .stderr(Sink::Tail(64 * 1024))
    }
}
