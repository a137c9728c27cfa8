//! `jmp config client create`: a new client, from options and questions.

use std::io::Write;
use std::path::PathBuf;

use jumpstarter_config::{ClientConfig, ClientDrivers};
use jumpstarter_driver_core::Secret;

use super::FileFormat;
use super::create::read;
use crate::fault::{Fault, Result, SUCCESS};
use crate::terminal::{self, Echo};

/// Create a client: its name on a controller, and its token
///
/// On a terminal, what is missing is asked for. Only this user can read the file. The first client
/// becomes the current one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config client create me
  jmp config client create me --namespace lab --name me --endpoint controller.example:443 \\
      --token-file token.txt")]
pub(super) struct Create {
    /// The client's alias
    alias: String,
    /// Write this file instead of the one of the alias
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The client's namespace on the controller
    #[arg(long)]
    namespace: Option<String>,
    /// The client's name in that namespace
    #[arg(long)]
    name: Option<String>,
    /// The controller
    #[arg(short, long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// The client's token for the controller; other users of this machine can see it in the process
    /// list
    #[arg(short, long, conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Packages whose Python client classes may be loaded, with commas between them
    #[arg(short, long, value_name = "PACKAGES", value_delimiter = ',')]
    allow: Vec<String>,
    /// Let the Python client classes of all packages be loaded
    #[arg(long)]
    r#unsafe: bool,
    /// Accept any certificate of the controller
    #[arg(short = 'k', long)]
    insecure_tls: bool,
    /// Ask nothing, also on a terminal
    #[arg(long)]
    nointeractive: bool,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: FileFormat,
}

pub(super) fn create(arguments: &Create, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let alias = &arguments.alias;
    if arguments.out.is_none() {
        // Before anything is asked for.
        ClientConfig::check_new(alias)?;
    }
    let token = match &arguments.token_file {
        Some(file) => Some(read(file)?.trim().to_owned()),
        None => arguments.token.clone(),
    };
    let answers = answers(arguments, token, err)?;
    let [namespace, name, endpoint, token] = answers;
    let mut config = ClientConfig::new(alias, namespace, name);
    config.endpoint = Some(endpoint);
    config.token = Some(Secret::new(token));
    config.tls.insecure = arguments.insecure_tls;
    let packages = arguments.allow.iter().filter(|package| !package.is_empty());
    config.drivers.allow = packages.cloned().collect();
    config.drivers.allow_all = arguments.r#unsafe
        || config.drivers.allow.iter().any(|package| package == ClientDrivers::ALL);
    let path = match &arguments.out {
        Some(path) => {
            config.path = Some(path.clone());
            config.save()?
        }
        None => {
            let path = config.save_new()?;
            if ClientConfig::all()?.len() == 1 {
                ClientConfig::set_current(Some(alias))?;
            }
            path
        }
    };
    arguments.output.print("created", alias, &path, out)?;
    Ok(SUCCESS)
}

/// The namespace, name, endpoint and token: given, or asked for.
fn answers(arguments: &Create, token: Option<String>, err: &mut dyn Write) -> Result<[String; 4]> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let mut fields = [
        ("--namespace", "Namespace of the client", Echo::Shown, given(&arguments.namespace)),
        ("--name", "Name of the client", Echo::Shown, given(&arguments.name)),
        ("--endpoint", "Controller (HOST:PORT)", Echo::Shown, given(&arguments.endpoint)),
        ("--token", "Token (not shown)", Echo::Hidden, given(&token)),
    ];
    if arguments.nointeractive || !terminal::is_interactive() {
        let missing: Vec<&str> =
            fields.iter().filter(|field| field.3.is_none()).map(|field| field.0).collect();
        if !missing.is_empty() {
            let message = format!("missing: {}", missing.join(", "));
            return Err(Fault::usage(message, "give them, or run the command on a terminal"));
        }
    }
    for (_, question, echo, value) in &mut fields {
        while value.is_none() {
            *value = Some(terminal::ask(question, *echo, err)?).filter(|text| !text.is_empty());
        }
    }
    Ok(fields.map(|field| field.3.unwrap_or_default()))
}
