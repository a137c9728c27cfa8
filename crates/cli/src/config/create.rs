//! `jmp config exporter create`: a new file under an alias.

use std::io::{Read, Write};
use std::path::Path;

use jumpstarter_config::{ExporterConfig, make_private};
use jumpstarter_driver_core::{Error, ResultExt};
use jumpstarter_files::save_new;
use serde_json::Value;

use super::{Alias, FileFormat, file_of_user};
use crate::fault::{Fault, Result, SUCCESS};
use crate::serving;

/// The largest accepted file, in bytes: the same limit as an exporter's.
const MAX_LENGTH: u64 = 1 << 20;

/// Give an exporter file an alias, or create a new file
///
/// Only this user can read the file. `jmp shell --exporter ALIAS` and `jmp run --exporter ALIAS`
/// find it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config exporter create lab --from lab.yaml
  generate-lab | jmp config exporter create lab --from -
  jmp config exporter create lab --name lab-1 --endpoint controller.example:443 --token-file token.txt")]
pub(super) struct Create {
    #[command(flatten)]
    alias: Alias,
    /// Copy this file, after checking it; `-` is standard input
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["namespace", "name", "endpoint", "token", "token_file", "insecure_tls"])]
    from: Option<String>,
    /// The exporter's namespace on the controller
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The exporter's name [default: the alias]
    #[arg(long)]
    name: Option<String>,
    /// The controller to join
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// The exporter's token for the controller; other users of this machine can see it in the
    /// process list
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Accept any certificate of the controller
    #[arg(short = 'k', long)]
    insecure_tls: bool,
    /// Accepted for scripts that pass it; this command never asks
    #[arg(long, hide = true)]
    nointeractive: bool,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: FileFormat,
}

impl Create {
    pub(super) fn is_json(&self) -> bool {
        self.output == FileFormat::Json
    }
}

pub(super) fn create(arguments: &Create, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let alias = &arguments.alias.alias;
    let path = file_of_user(alias)?;
    let (text, origin) = match &arguments.from {
        Some(file) => (read(file)?, file.clone()),
        None => (new_file(arguments)?, path.display().to_string()),
    };
    ExporterConfig::parse(&text, &origin).map_err(|faults| Fault::File(faults.into(), None))?;
    save(&path, &text, alias)?;
    arguments.output.print("created", alias, &path, out)?;
    // Loaded from its new place: relative paths are resolved in its folder.
    serving::load(&path, err).map(|_| SUCCESS)
}

pub(super) fn read(file: &str) -> Result<String> {
    let mut text = String::new();
    // Reads one byte more than the limit, to notice a larger file.
    match file {
        "-" => std::io::stdin()
            .lock()
            .take(MAX_LENGTH + 1)
            .read_to_string(&mut text)
            .context("reading standard input"),
        file => std::fs::File::open(file)
            .and_then(|file| file.take(MAX_LENGTH + 1).read_to_string(&mut text))
            .with_context(|| format!("reading {file}")),
    }?;
    if text.len() as u64 > MAX_LENGTH {
        let name = if file == "-" { "standard input" } else { file };
        let message = format!("{name} is longer than {MAX_LENGTH} bytes");
        return Err(Error::invalid_argument(message).into());
    }
    Ok(text)
}

/// The text of an exporter file without drivers.
fn new_file(arguments: &Create) -> Result<String> {
    let token = match &arguments.token_file {
        Some(file) => Some(read(file)?.trim().to_owned()),
        None => arguments.token.clone(),
    };
    // JSON's strings are YAML's, too.
    let quoted = |text: &str| Value::from(text).to_string();
    let name = arguments.name.as_deref().unwrap_or(&arguments.alias.alias);
    let mut text = format!(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata:\n  namespace: {}\n  name: {}\n",
        quoted(&arguments.namespace),
        quoted(name),
    );
    if let Some(endpoint) = &arguments.endpoint {
        text += &format!("endpoint: {}\n", quoted(endpoint));
    }
    if arguments.insecure_tls {
        text += "tls: {insecure: true}\n";
    }
    if let Some(token) = token {
        text += &format!("token: {}\n", quoted(&token));
    }
    text += "export: {}\n";
    Ok(text)
}

/// Writes a new file that only this user can read. The file appears complete or not at all.
fn save(path: &Path, text: &str, alias: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private(folder)?;
    match save_new(path, text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let error = Error::already_exists(format!("there is an exporter `{alias}` already"));
            Err(error
                .with_hint(format!(
                    "`jmp config exporter edit {alias}` changes it, `… delete {alias}` removes it"
                ))
                .into())
        }
        Err(error) => Ok(Err(error).with_context(|| format!("saving {}", path.display()))?),
    }
}
