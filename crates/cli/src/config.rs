//! `jmp config`: manages the exporter files and client files that have an alias.

mod change;
mod client;
mod client_create;
mod create;
mod look;

use std::io::Write;
use std::path::PathBuf;

use jumpstarter_config::{ExporterConfig, user_folder};
use jumpstarter_driver_core::Secret;

use crate::environment::Environment;
use crate::fault::Result;
use crate::format::Format;
use crate::print;

/// Manage the exporter files and client files that have an alias
///
/// The files are in ~/.config/jumpstarter/exporters and ~/.config/jumpstarter/clients, for this
/// user only: they may hold tokens and passwords. Exporter files for all users are in
/// /etc/jumpstarter/exporters; the user's file takes precedence.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config exporter create lab --from lab.yaml
  jmp config exporter list
  jmp config exporter show lab
  jmp shell --exporter lab
  jmp config client create me --namespace lab --name me --endpoint controller.example:443
  jmp config client use me")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// Manage the clients of this user: how to reach a controller
    #[command(subcommand, aliases = ["clients", "c"])]
    Client(client::Command),
    /// Manage the aliases of exporters
    #[command(subcommand, aliases = ["exporters", "e"])]
    Exporter(Command),
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(alias = "ls")]
    List(look::List),
    Show(look::Show),
    #[command(alias = "c")]
    Create(create::Create),
    Edit(change::Edit),
    #[command(aliases = ["del", "d"])]
    Delete(change::Delete),
}

/// The argument that names an exporter.
#[derive(Debug, clap::Args)]
struct Alias {
    /// The exporter's alias
    #[arg(default_value = "default")]
    alias: String,
}

/// The output format of a command that names a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// The file's path only
    Path,
}

impl FileFormat {
    /// Prints what was done to a file.
    fn print(
        self,
        done: &str,
        alias: &str,
        path: &std::path::Path,
        out: &mut dyn Write,
    ) -> Result<()> {
        match self {
            Self::Text => writeln!(out, "{done} {}", path.display())?,
            Self::Path => writeln!(out, "{}", path.display())?,
            Self::Json => writeln!(
                out,
                "{}",
                print::json(&serde_json::json!({"alias": alias, "path": path}))?
            )?,
        }
        Ok(())
    }
}

impl Arguments {
    /// The format of the command's output and errors.
    pub(crate) fn format(&self) -> Format {
        let command = match &self.kind {
            Kind::Client(command) => return command.format(),
            Kind::Exporter(command) => command,
        };
        let is_json = match command {
            Command::List(arguments) => arguments.is_json(),
            Command::Show(arguments) => arguments.is_json(),
            Command::Create(arguments) => arguments.is_json(),
            Command::Edit(_) => false,
            Command::Delete(arguments) => arguments.is_json(),
        };
        if is_json { Format::Json } else { Format::Text }
    }
}

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let (out, err) = (&mut environment.out(), &mut environment.err());
    let command = match &arguments.kind {
        Kind::Client(command) => return client::run(command, environment),
        Kind::Exporter(command) => command,
    };
    match command {
        Command::List(arguments) => look::list(arguments, environment),
        Command::Show(arguments) => look::show(arguments, environment),
        Command::Create(arguments) => create::create(arguments, out, err),
        Command::Edit(arguments) => change::edit(arguments, err),
        Command::Delete(arguments) => change::delete(arguments, out, err),
    }
}

/// The output format of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ListFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For programs that read YAML
    Yaml,
    /// The aliases only
    Name,
}

/// The secret in a file; `-` is standard input.
pub(crate) fn read_secret(file: &str) -> Result<Secret> {
    Ok(Secret::new(create::read(file)?.trim()))
}

/// The text of a file; `-` is standard input.
pub(crate) fn read_text(file: &str) -> Result<String> {
    create::read(file)
}

/// The path of the user's file for that alias; the file may not exist.
pub(crate) fn file_of_user(alias: &str) -> Result<PathBuf> {
    let name = ExporterConfig::file_name(alias)?;
    Ok(user_folder()?.join("exporters").join(name))
}
