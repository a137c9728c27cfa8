//! Explains a path or verb that the device lacks, and incomplete lines.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use jumpstarter_driver_core::{Device, suggest};

use super::names::shown;
use crate::fault::Fault;

/// Returns what is wrong with the command line, or the help that it asks for.
pub(crate) fn explain(
    usage: clap::Error,
    command: &Command,
    device: &Device,
    arguments: &[OsString],
) -> Fault {
    let name = match usage.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if usage.kind() == ErrorKind::InvalidSubcommand => name,
        _ => return usage.into(),
    };
    unknown(name, command, device, arguments)
}

/// Returns the command that the first words name, and these words.
fn chosen<'a>(command: &'a Command, arguments: &[OsString]) -> (&'a Command, Vec<String>) {
    let mut words = Vec::new();
    let mut command = command;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
            words.push(word.to_owned());
        } else if !word.starts_with('-') {
            break;
        }
    }
    (command, words)
}

fn unknown(name: &str, command: &Command, device: &Device, arguments: &[OsString]) -> Fault {
    let (command, words) = chosen(command, arguments);
    let place = words.join(".");
    let message = match place.is_empty() {
        true => format!("this device has no `{name}`"),
        false => format!("`{place}` has no `{name}`"),
    };
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<&str> = visible.map(Command::get_name).collect();
    let paths: Vec<_> = device.nodes().iter().map(|node| shown(node.path())).collect();
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
