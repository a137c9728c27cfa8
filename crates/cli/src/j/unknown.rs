//! A path or verb that the device lacks, and lines that end too early.

use std::ffi::OsString;

use anyhow::Result;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use jumpstarter_driver_core::{Device, suggest};

use super::fault::{self, Fault};
use super::tree;
use crate::arguments::Format;

/// Explains what is wrong with the command line, or prints the help that was asked for.
pub(crate) fn explain(
    usage: &clap::Error,
    command: &mut Command,
    device: &Device,
    arguments: &[OsString],
    format: Format,
) -> Result<u8> {
    match usage.kind() {
        // `j` alone, with or without options.
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if format == Format::Text && chosen(command, arguments).1.is_empty() =>
        {
            fault::note(&command.render_help());
            Ok(fault::USAGE)
        }
        ErrorKind::InvalidSubcommand => match usage.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) => Err(unknown(name, command, device, arguments)),
            _ => Ok(fault::usage(usage, format)),
        },
        _ => Ok(fault::usage(usage, format)),
    }
}

/// The options that stand before a path and take the next word.
const WITH_VALUE: [&str; 3] = ["--output", "--exporter-config", "--log-level"];

/// The command that the first words name, and these words.
fn chosen<'a>(command: &'a Command, arguments: &[OsString]) -> (&'a Command, Vec<String>) {
    let mut words = Vec::new();
    let mut command = command;
    let mut given = arguments.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = given.next() {
        if WITH_VALUE.contains(&word) {
            given.next();
        } else if let Some(below) = command.find_subcommand(word) {
            command = below;
            words.push(word.to_owned());
        } else if !word.starts_with('-') {
            break;
        }
    }
    (command, words)
}

fn unknown(
    name: &str,
    command: &Command,
    device: &Device,
    arguments: &[OsString],
) -> anyhow::Error {
    let (command, words) = chosen(command, arguments);
    let place = words.join(".");
    let message = match place.is_empty() {
        true => format!("this device has no `{name}`"),
        false => format!("`{place}` has no `{name}`"),
    };
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<&str> = visible.map(Command::get_name).collect();
    let paths: Vec<_> = device.nodes().iter().map(|node| tree::shown(node.path())).collect();
    let paths = || paths.iter().map(AsRef::as_ref).filter(|path: &&str| !path.is_empty());
    let below: Vec<&str> = paths().filter(|path| path.rsplit('.').next() == Some(name)).collect();
    let hint = match (below.as_slice(), name.contains('.')) {
        ([], true) => suggest::hint(name, paths().collect::<Vec<_>>()),
        ([], false) => suggest::hint(name, names),
        (elsewhere, _) => {
            format!("`{name}` is at {}", suggest::list(elsewhere.iter().copied()))
        }
    };
    Fault::usage(message, hint)
}
