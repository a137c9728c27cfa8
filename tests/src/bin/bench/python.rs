//! The environment with the packages in Python.

use std::path::{Path, PathBuf};

use jumpstarter_supervise::Command;

/// What is run with the environment's interpreter.
const CLIENT: &str = include_str!("client.py");

/// The environment, whose programs are in `bin`.
#[derive(Debug)]
pub(crate) struct Python(PathBuf);

impl Python {
    /// The one that `cargo xtask bench` has made, if it has.
    pub(crate) fn find() -> Option<Self> {
        std::env::var_os(jumpstarter_tests::python_exporter::VARIABLE)
            .map(|folder| Self(folder.into()))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// The Python client for the exporter at `address`, which prints one figure.
    pub(crate) fn client<'a>(
        &self,
        address: &str,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Command {
        connected(Command::new(self.interpreter()).args(["-c", CLIENT]).args(words), address)
    }

    pub(crate) fn interpreter(&self) -> PathBuf {
        self.0.join("bin/python")
    }

    /// Its `j`.
    pub(crate) fn j(&self) -> PathBuf {
        self.0.join("bin/j")
    }
}

/// With the environment that clients, of either language, read.
pub(crate) fn connected(command: Command, address: &str) -> Command {
    command
        .env("JUMPSTARTER_HOST", address)
        .env("JMP_DRIVERS_ALLOW", "UNSAFE")
        .env("JMP_GRPC_INSECURE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
}
