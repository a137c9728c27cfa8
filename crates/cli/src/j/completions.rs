//! `j completions`: prints a script with which a shell completes the device's paths and verbs.

use std::io::Write;

use clap::ValueEnum;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::context::Context;
use super::verb::Say;
use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};

/// The environment variable that the scripts set to the shell's name.
pub(crate) const VARIABLE: &str = "COMPLETE";

/// A shell that has a completion script.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The completer that writes the shell's script and answers it.
    pub(crate) fn completer(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        }
    }
}

/// Prints a script with which a shell completes the device's paths and verbs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
At each TAB the shell asks the exporter at JUMPSTARTER_HOST; completion never opens a device.

Examples:
  source <(j completions bash)            in ~/.bashrc
  source <(j completions zsh)             in ~/.zshrc
  j completions fish | source             in ~/.config/fish/config.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints the script. Needs no device.
    pub(crate) fn print(&self, environment: &Environment) -> Result<u8> {
        let mut script = Vec::new();
        write_registration(self.shell, &mut script)?;
        environment.script(&script)?;
        Ok(SUCCESS)
    }
}

impl Say for Completions {
    const NAME: &'static str = "completions";

    async fn run(self, context: &Context) -> Result<u8> {
        self.print(context.output.environment())
    }
}

/// Writes the script for `j`.
fn write_registration(shell: Shell, script: &mut dyn Write) -> Result<()> {
    // Uses the program's name, not its path: the script outlives this path.
    Ok(shell.completer().write_registration(VARIABLE, "j", "j", "j", script)?)
}
