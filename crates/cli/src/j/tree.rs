//! The command line of a device: a command for each driver, its verbs below it.

use anyhow::Result;
use clap::{ArgMatches, Command};
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::device::Node;

use super::action::{self, Action};
use super::{arguments, builtin};

/// `j` for this device.
///
/// What the device has wins over the commands that `j` has for every device: such a command is called `@NAME` then.
pub(crate) fn command(device: &Device) -> Command {
    let nodes = device.nodes();
    let mut command = with_entries(arguments::base(), device, 0, "j");
    for builtin in builtin::ALL {
        let name = match command.find_subcommand(builtin.name) {
            Some(_) => format!("@{}", builtin.name),
            None => builtin.name.to_owned(),
        };
        command = command.subcommand(builtin.plain_command().name(name));
    }
    // `j qemu.power on`: hidden, so that lists and completions show them only when nothing else fits.
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.path().contains('.')) {
        command = command.subcommand(of_node(device, index, node.path(), "j").hide(true));
    }
    command
}

/// The command of one driver: the drivers below it, and its verbs.
fn of_node(device: &Device, index: usize, name: &str, prefix: &str) -> Command {
    let node = &device.nodes()[index];
    let command = Command::new(name.to_owned())
        .about(about(node))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand_value_name("VERB");
    with_entries(command, device, index, &format!("{prefix} {name}"))
}

fn with_entries(mut command: Command, device: &Device, index: usize, prefix: &str) -> Command {
    let nodes = device.nodes();
    for (child, node) in nodes.iter().enumerate().filter(|(_, node)| node.parent() == Some(index)) {
        command = command.subcommand(of_node(device, child, node.name(), prefix));
    }
    for action in action::of(&nodes[index]) {
        if command.find_subcommand(action.name()).is_none() {
            command = command.subcommand(action.command(&nodes[index], prefix));
        }
    }
    command
}

/// One line about a driver.
pub(crate) fn about(node: &Node) -> String {
    if let Some(description) = node.description() {
        return description.to_owned();
    }
    match node.interface_names() {
        None => node.client().to_owned(),
        Some(names) if names.is_empty() => "a group of drivers".to_owned(),
        Some(names) => names.join(", "),
    }
}

/// What the arguments chose.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    /// The driver; empty for the root.
    pub(crate) path: String,
    pub(crate) action: Action,
    /// The arguments of the action.
    pub(crate) matches: &'a ArgMatches,
}

/// Finds what the arguments chose.
pub(crate) fn chosen<'a>(device: &Device, matches: &'a ArgMatches) -> Result<Chosen<'a>> {
    let nodes = device.nodes();
    let (mut index, mut matches) = (0, matches);
    // Arguments that the verb itself divides further (`resize disk`) are left to it.
    while let Some((name, below)) = matches.subcommand() {
        matches = below;
        let child = |node: &Node| match index {
            0 if name.contains('.') => node.path() == name,
            _ => node.parent() == Some(index) && node.name() == name,
        };
        if let Some(child) = nodes.iter().position(child) {
            index = child;
            continue;
        }
        let own = action::of(&nodes[index]).into_iter().find(|action| action.name() == name);
        let builtin = || builtin::ALL.iter().find(|verb| verb.name == name.trim_start_matches('@'));
        if let Some(action) = own.or_else(|| Some(Action::Verb(builtin()?, None))) {
            return Ok(Chosen { path: nodes[index].path().to_owned(), action, matches });
        }
    }
    anyhow::bail!("the command line chose no verb")
}
