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

/// Writes a page for each program, and one for each command of `jmp`.
pub(crate) fn manual(arguments: &Manual, mut jmp: Command, j: Command) -> Result<u8> {
    page(j, "j", &arguments.folder)?;
    jmp.build();
    for command in jmp.get_subcommands() {
        if !command.is_hide_set() && command.get_name() != "help" {
            page(command.clone(), &format!("jmp-{}", command.get_name()), &arguments.folder)?;
        }
    }
    page(jmp, "jmp", &arguments.folder)?;
    Ok(SUCCESS)
}

fn page(command: Command, name: &str, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.display_name(name.to_owned()));
    page.title(name.to_uppercase()).render(&mut text).context("writing a manual page")?;
    Ok(std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?)
}
