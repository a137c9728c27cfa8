//! A user's folder of configuration, and `jmp` with it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::PathBuf;

use jumpstarter_supervise::{Command, Output, run_unchecked};

use super::terminal::{DEADLINE, JMP};

/// A folder in which the user's configuration is `home`.
pub struct Home {
    folder: tempfile::TempDir,
    words: &'static [&'static str],
}

impl Home {
    /// An empty one, for commands that begin with these words.
    pub fn of(words: &'static [&'static str]) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), words }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `jmp` with these words, in the folder, without what the developer's own shell says about
    /// clients.
    pub fn command(&self, words: &[&str]) -> Command {
        let command = Command::new(JMP).args(self.words).args(words);
        let variables = ["JMP_NAMESPACE", "JMP_NAME", "JMP_TOKEN", "JMP_ENDPOINT"];
        let command = variables.into_iter().fold(command, Command::env_remove);
        command.current_dir(self.folder.path()).env("JMP_CLIENT_CONFIG_HOME", self.path("home"))
    }

    pub async fn run(&self, words: &[&str]) -> Output {
        run_unchecked(self.command(words), DEADLINE).await.unwrap()
    }

    /// What it prints, the exit code last, with the user's configuration called `HOME`.
    pub async fn text(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        let code = output.status.code().unwrap();
        format!("{}{}exit code {code}", output.stdout_text(), output.stderr)
            .replace(self.path("home").to_str().unwrap(), "HOME")
    }
}
