//! `jmp completions` and `jmp manual`: what a package installs beside the program.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::{SUCCESS, arguments, j};

/// Print the completion script of `jmp` for a shell
///
/// `j completions SHELL` prints that of `j`, which asks the device.
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
    /// The folder, which exists
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completion script.
pub(crate) fn completions(arguments: &Completions, out: &mut dyn Write) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut jmp(), "jmp", &mut script);
    out.write_all(&script)?;
    Ok(SUCCESS)
}

/// Writes a page for each program, and one for each command of `jmp`.
pub(crate) fn manual(arguments: &Manual) -> Result<u8> {
    page(j::command(), "j", &arguments.folder)?;
    let mut jmp = jmp();
    jmp.build();
    for command in jmp.get_subcommands() {
        if !command.is_hide_set() && command.get_name() != "help" {
            page(command.clone(), &format!("jmp-{}", command.get_name()), &arguments.folder)?;
        }
    }
    page(jmp, "jmp", &arguments.folder)?;
    Ok(SUCCESS)
}

fn jmp() -> Command {
    arguments::Arguments::command()
}

fn page(command: Command, name: &str, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.display_name(name.to_owned()));
    page.title(name.to_uppercase()).render(&mut text).context("writing a manual page")?;
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(&Manual { folder: folder.path().to_owned() }).unwrap();
        for (name, text) in [("jmp", "jmp run"), ("jmp-run", "grpc"), ("j", "output")] {
            let page = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.starts_with(".ie") && page.replace('\\', "").contains(text), "{page}");
        }
        assert!(!folder.path().join("jmp-manual.1").exists());
        manual(&Manual { folder: folder.path().join("missing") }).unwrap_err();
    }

    #[test]
    fn each_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(&Completions { shell }, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("drivers"), "{shell}");
        }
    }
}
