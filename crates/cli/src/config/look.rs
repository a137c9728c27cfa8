//! `jmp config exporter list` and `show`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use jumpstarter_config::{ExporterConfig, Hook, Settings, files_with_alias};
use serde_json::{Value, json};

use super::{Alias, ListFormat};
use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::format::Format;
use crate::{outline, print, table};

/// List the exporters that have an alias
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config exporter list
  jmp config exporter list --output name")]
pub(super) struct List {
    /// How to print the list
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ListFormat,
}

impl List {
    pub(super) fn is_json(&self) -> bool {
        matches!(self.output, ListFormat::Json)
    }
}

pub(super) fn list(arguments: &List, environment: &Environment) -> Result<u8> {
    let mut out = environment.out();
    let files = files(&mut environment.err())?;
    let items = || -> Vec<Value> {
        files.iter().map(|(alias, path)| json!({"alias": alias, "path": path})).collect()
    };
    match arguments.output {
        ListFormat::Json => writeln!(out, "{}", print::pretty_json(&items())?)?,
        ListFormat::Yaml => write!(out, "{}", print::yaml(&items())?)?,
        ListFormat::Name => {
            for alias in files.keys() {
                writeln!(out, "{alias}")?;
            }
        }
        ListFormat::Text if files.is_empty() => {
            writeln!(
                out,
                "no exporter has an alias; `jmp config exporter create ALIAS` makes one"
            )?;
        }
        ListFormat::Text => {
            let row = |(alias, path): (&String, &PathBuf)| {
                vec![alias.clone(), path.display().to_string()]
            };
            let head = vec!["ALIAS".to_owned(), "PATH".to_owned()];
            let rows: Vec<_> = std::iter::once(head).chain(files.iter().map(row)).collect();
            out.write_all(table::aligned(&rows, environment.width()).as_bytes())?;
        }
    }
    Ok(SUCCESS)
}

/// The file of each alias; the user's file hides the system's. A folder that cannot be read is
/// reported and skipped.
fn files(err: &mut dyn Write) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for folder in ExporterConfig::folders() {
        match files_with_alias(&folder) {
            // The user's file hides the system's.
            Ok(found) => found.into_iter().for_each(|(alias, path)| {
                files.entry(alias).or_insert(path);
            }),
            Err(error) => writeln!(err, "warning: {} is left out: {error}", folder.display())?,
        }
    }
    Ok(files)
}

/// Show an exporter: its file, settings and drivers; never its token or the drivers' configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config exporter show lab
  jmp config exporter show lab --output json")]
pub(super) struct Show {
    #[command(flatten)]
    alias: Alias,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl Show {
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }
}

pub(super) fn show(arguments: &Show, environment: &Environment) -> Result<u8> {
    let mut out = environment.out();
    let path = ExporterConfig::find(&arguments.alias.alias)?;
    let config = ExporterConfig::load(&path).map_err(|faults| Fault::File(faults.into(), None))?;
    let mut report = json!({"alias": arguments.alias.alias, "path": path});
    for (key, value) in settings(&config.settings) {
        report[key] = value;
    }
    match arguments.output {
        Format::Json => {
            report["export"] = outline::json(&config.export);
            writeln!(out, "{}", print::pretty_json(&report)?)?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = report
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| vec![format!("{key}:"), plain(value)])
                .collect();
            out.write_all(table::aligned(&rows, None).as_bytes())?;
            if !config.export.is_empty() {
                writeln!(out)?;
                out.write_all(outline::text(&config.export, environment.width()).as_bytes())?;
            }
        }
    }
    Ok(SUCCESS)
}

/// The settings that are safe to show; null if one is not set.
fn settings(settings: &Settings) -> Vec<(&'static str, Value)> {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    // Scripts hold passwords, too.
    let hook = |hook: &Option<Hook>| hook.as_ref().map_or(Value::Null, |_| "set".into());
    let name = Some(settings.metadata.name.clone()).filter(|name| !name.is_empty());
    vec![
        ("name", text(&name)),
        ("namespace", text(&settings.metadata.namespace)),
        ("description", text(&settings.description)),
        ("endpoint", text(&settings.endpoint)),
        ("token", settings.token.as_ref().map_or(Value::Null, |_| "set".into())),
        (
            "tls",
            if settings.tls.insecure { "any certificate is believed".into() } else { Value::Null },
        ),
        ("motd", text(&settings.motd)),
        ("beforeLease", hook(&settings.hooks.before_lease)),
        ("afterLease", hook(&settings.hooks.after_lease)),
    ]
}

/// The value on one line.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.lines().collect::<Vec<_>>().join(" ⏎ ")
}
