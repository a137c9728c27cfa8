//! `j completions`: a script by which a shell completes the device's paths and verbs.

use std::io::Write;

use clap::ValueEnum;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::context::Context;
use super::verb::Say;
use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};

/// The scripts set it to the shell's name when they ask.
pub(crate) const VARIABLE: &str = "COMPLETE";

/// A shell that there is a script for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// What makes its script, and answers it.
    pub(crate) fn completer(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        }
    }
}

/// Prints a script by which a shell completes the device's paths and verbs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The shell asks the exporter at JUMPSTARTER_HOST when TAB is pressed; a device is never opened for that.

Examples:
  source <(j completions bash)            in ~/.bashrc
  source <(j completions zsh)             in ~/.zshrc
  j completions fish | source             in ~/.config/fish/config.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints the script. It needs no device.
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

/// The script for `j`.
fn write_registration(shell: Shell, script: &mut dyn Write) -> Result<()> {
    // By its name: the script outlives where the program is now.
    Ok(shell.completer().write_registration(VARIABLE, "j", "j", "j", script)?)
}
