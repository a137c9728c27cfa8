//! `jmp completions` and `jmp manual`: the files that a package installs beside the program.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use jumpstarter_driver_core::ResultExt;

use crate::fault::{Result, SUCCESS};

/// Print the completion script of `jmp` for a shell
///
/// `j completions SHELL` prints the script of `j`, which asks the device.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(jmp completions bash)          in ~/.bashrc
  source <(jmp completions zsh)           in ~/.zshrc
  jmp completions fish | source           in ~/.config/fish/config.fish")]
pub(crate) struct Completions {
    /// The shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write the manual pages of `jmp` and `j` into a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Manual {
    /// The folder, which must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completion script.
pub(crate) fn completions(
    arguments: &Completions,
    mut jmp: Command,
    out: &mut dyn Write,
) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut jmp, "jmp", &mut script);
    out.write_all(&script)?;
    Ok(SUCCESS)
}

/// Writes a page for each program and each of their commands.
pub(crate) fn manual(arguments: &Manual, jmp: Command, j: Command) -> Result<u8> {
    for (program, name) in [(jmp, "jmp"), (j, "j")] {
        let mut program = without_help_commands(program);
        program.build();
        pages(program, name, &arguments.folder)?;
    }
    Ok(SUCCESS)
}

/// Leaves out the `help` commands: `--help` says all that their pages could.
fn without_help_commands(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help_commands)
}

/// Writes the page of a command and those of its commands.
fn pages(command: Command, name: &str, folder: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below.clone(), &format!("{name}-{}", below.get_name()), folder)?;
    }
    page(command, name, folder)
}

fn page(command: Command, name: &str, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.display_name(name.to_owned()));
    page.title(name.to_uppercase()).render(&mut text).context("writing a manual page")?;
    Ok(std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?)
}
