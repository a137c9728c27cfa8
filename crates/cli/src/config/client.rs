//! `jmp config client`: the clients of this user, and which of them is the current one.

use std::io::Write;
use std::path::Path;

use jumpstarter_config::ClientConfig;
use serde_json::{Value, json};

use super::client_create::{self, Create};
use super::{FileFormat, ListFormat};
use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::format::Format;
use crate::{print, table};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    #[command(alias = "ls")]
    List(List),
    Show(Show),
    #[command(alias = "c")]
    Create(Box<Create>),
    Use(Use),
    #[command(aliases = ["del", "d"])]
    Delete(Delete),
}

impl Command {
    /// The format of the command's output and errors.
    pub(super) fn format(&self) -> Format {
        let is_json = match self {
            Self::List(arguments) => arguments.output == ListFormat::Json,
            Self::Show(arguments) => arguments.output == ShowFormat::Json,
            Self::Create(arguments) => arguments.output == FileFormat::Json,
            Self::Use(arguments) => arguments.output == FileFormat::Json,
            Self::Delete(arguments) => arguments.output == FileFormat::Json,
        };
        if is_json { Format::Json } else { Format::Text }
    }
}

pub(super) fn run(command: &Command, environment: &Environment) -> Result<u8> {
    let (out, err) = (&mut environment.out(), &mut environment.err());
    match command {
        Command::List(arguments) => list(arguments, environment),
        Command::Show(arguments) => show(arguments, out),
        Command::Create(arguments) => client_create::create(arguments, out, err),
        Command::Use(arguments) => make_current(arguments, out),
        Command::Delete(arguments) => delete(arguments, out, err),
    }
}

/// List the clients of this user; `*` marks the current one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config client list
  jmp config client list --output name")]
pub(super) struct List {
    /// How to print the list
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ListFormat,
}

fn list(arguments: &List, environment: &Environment) -> Result<u8> {
    let (mut out, mut err) = (environment.out(), environment.err());
    let mut clients = Vec::new();
    for client in ClientConfig::all()? {
        match client {
            Ok(client) => clients.push(client),
            // One file with faults does not hide the others.
            Err(faults) => writeln!(err, "warning: a client is left out\n{faults}")?,
        }
    }
    let current = ClientConfig::current_alias()?;
    // The form of upstream's list, without its tokens.
    let report = || {
        let items: Vec<Value> = clients.iter().map(shown).collect();
        json!({
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "currentConfig": current,
            "items": items,
            "kind": "ClientConfigList",
        })
    };
    match arguments.output {
        ListFormat::Json => writeln!(out, "{}", print::pretty_json(&report())?)?,
        ListFormat::Yaml => write!(out, "{}", print::yaml(&report())?)?,
        ListFormat::Name => {
            for client in &clients {
                writeln!(out, "{}", client.alias)?;
            }
        }
        ListFormat::Text if clients.is_empty() => {
            writeln!(out, "this user has no client; `jmp config client create ALIAS` makes one")?;
        }
        ListFormat::Text => {
            let mut rows = vec![["CURRENT", "ALIAS", "ENDPOINT", "PATH"].map(str::to_owned).into()];
            for client in &clients {
                let is_current = current.as_deref() == Some(&client.alias);
                let path = client.path.as_deref().unwrap_or(Path::new("")).display().to_string();
                rows.push(vec![
                    if is_current { "*" } else { "" }.to_owned(),
                    client.alias.clone(),
                    client.endpoint.clone().unwrap_or_default(),
                    path,
                ]);
            }
            out.write_all(table::aligned(&rows, environment.width()).as_bytes())?;
        }
    }
    Ok(SUCCESS)
}

/// Show a client: its file and settings, never its tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config client show
  jmp config client show me --output yaml")]
pub(super) struct Show {
    /// The client's alias [default: the current client]
    alias: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ShowFormat,
}

/// The output format of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ShowFormat {
    /// For people, and for programs that read YAML
    #[default]
    Yaml,
    /// For programs
    Json,
}

fn show(arguments: &Show, out: &mut dyn Write) -> Result<u8> {
    let alias = match &arguments.alias {
        Some(alias) => alias.clone(),
        None => ClientConfig::current_alias()?.ok_or_else(|| {
            Fault::usage("there is no current client", "name one: `jmp config client show ALIAS`")
        })?,
    };
    let path = ClientConfig::find(&alias)?;
    let client = ClientConfig::load(path).map_err(|faults| Fault::File(faults.into(), None))?;
    let report = shown(&client);
    match arguments.output {
        ShowFormat::Json => writeln!(out, "{}", print::pretty_json(&report)?)?,
        ShowFormat::Yaml => write!(out, "{}", print::yaml(&report)?)?,
    }
    Ok(SUCCESS)
}

/// What may be shown of a client.
fn shown(client: &ClientConfig) -> Value {
    let is_set = |token: bool| if token { Value::from("set") } else { Value::Null };
    json!({
        "alias": client.alias,
        "path": client.path,
        "metadata": client.metadata,
        "endpoint": client.endpoint,
        "tls": client.tls,
        "token": is_set(client.token.is_some()),
        "refresh_token": is_set(client.refresh_token.is_some()),
        "grpcOptions": client.grpc_options,
        "drivers": {"allow": client.drivers.allow, "unsafe": client.drivers.allow_all},
        "shell": {"use_profiles": client.shell.use_profiles},
        "leases": {
            "acquisition_timeout": client.leases.acquisition_timeout.as_secs_f64(),
            "dial_timeout": client.leases.dial_timeout.as_secs_f64(),
            "retry_timeout": client.leases.retry_timeout.as_secs_f64(),
        },
    })
}

/// Make a client the current one: commands use it unless they name another
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp config client use me")]
pub(super) struct Use {
    /// The client's alias
    alias: String,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: FileFormat,
}

fn make_current(arguments: &Use, out: &mut dyn Write) -> Result<u8> {
    let path = ClientConfig::find(&arguments.alias)?;
    ClientConfig::set_current(Some(&arguments.alias))?;
    arguments.output.print("the current client is", &arguments.alias, &path, out)?;
    Ok(SUCCESS)
}

/// Delete a client's file; if it is the current client, the next one becomes current
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp config client delete me")]
pub(super) struct Delete {
    /// The client's alias
    alias: String,
    /// How to print what was deleted
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: FileFormat,
}

fn delete(arguments: &Delete, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let was_current = ClientConfig::current_alias()?.as_ref() == Some(&arguments.alias);
    let path = ClientConfig::delete(&arguments.alias)?;
    arguments.output.print("deleted", &arguments.alias, &path, out)?;
    if was_current {
        match ClientConfig::current_alias()? {
            Some(next) => writeln!(err, "note: the current client is `{next}` now")?,
            None => writeln!(err, "note: there is no current client now")?,
        }
    }
    Ok(SUCCESS)
}
