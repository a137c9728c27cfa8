//! The command line of a device: a command for each driver, with its verbs below it.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches};
use jumpstarter_driver_core::{Device, Error, Node};

use super::action::{self, Action};
use super::completions::Completions;
use super::names::{about, is_plain, shown};
use super::own::OwnMethods;
use super::verb::Say;
use super::{builtin, options, verbs};
use crate::fault::Result;
use crate::print;

/// The parser of `j` for this device, as far as these arguments need it: drivers that no word names
/// have only a name and a description, for lists.
///
/// The device's names win over the built-in commands: such a command is then called `@NAME`.
pub(crate) fn command(device: &Device, own: &OwnMethods, arguments: &[OsString]) -> Command {
    Maker::new(device, own, |_| true).command(&words(arguments))
}

/// The parser for a shell that completes: it omits drivers whose names a shell would interpret.
pub(crate) fn completing(device: &Device, own: &OwnMethods, arguments: &[OsString]) -> Command {
    Maker::new(device, own, is_plain).command(&words(arguments))
}

/// Adds the default verb if the words name none: `j ssh uname` is `j ssh ssh uname`. The drivers
/// below the driver, its verbs and `--help` take precedence.
pub(crate) fn with_default_verb(device: &Device, arguments: &[OsString]) -> Vec<OsString> {
    let mut words = arguments.to_vec();
    let nodes = device.nodes();
    let mut index = 0;
    for place in 1..=words.len() {
        let word = words.get(place).map(|word| word.to_string_lossy());
        let word = word.as_deref();
        let is_named = |node: &Node| match word {
            Some(word) if index == 0 && word.contains('.') => shown(node.path()) == word,
            Some(word) => node.parent() == Some(index) && shown(node.name()) == word,
            None => false,
        };
        if let Some(child) = nodes.iter().position(is_named) {
            index = child;
            continue;
        }
        let interfaces = nodes[index].interfaces().iter();
        let default = interfaces.filter_map(|interface| verbs::default_of(interface.name)).next();
        let is_said = |word: &str| {
            matches!(word, "--help" | "-h")
                || action::of(&nodes[index], &OwnMethods::default())
                    .iter()
                    .any(|action| action.name() == word)
        };
        if let Some(verb) = default.filter(|_| index != 0 && !word.is_some_and(is_said)) {
            words.insert(place, verb.name.into());
        }
        break;
    }
    words
}

fn words(arguments: &[OsString]) -> Vec<&str> {
    arguments.iter().skip(1).filter_map(|word| word.to_str()).collect()
}

/// The parser of `j` with the commands that every device has.
pub(crate) fn deviceless() -> Command {
    options::base().subcommands(builtin::ALL.iter().map(|verb| verb.plain_command()))
}

/// The shell of `j completions`, which needs no device; `None` for another command.
///
/// # Errors
/// Fails if the rest of the line is wrong.
pub(crate) fn completions(arguments: &[OsString]) -> Result<Option<Completions>> {
    if arguments.get(1).is_none_or(|word| word != Completions::NAME) {
        return Ok(None);
    }
    let matches = deviceless().try_get_matches_from(arguments)?;
    let (_, matches) = matches.subcommand().unwrap_or(("", &matches));
    Ok(Some(Completions::from_arg_matches(matches)?))
}

/// Makes the commands of a device's drivers.
struct Maker<'a> {
    device: &'a Device,
    own: &'a OwnMethods,
    /// Whether an item of this name is included.
    is_wanted: fn(&str) -> bool,
    /// The indices of each driver's children.
    children: Vec<Vec<usize>>,
}

impl<'a> Maker<'a> {
    fn new(device: &'a Device, own: &'a OwnMethods, is_wanted: fn(&str) -> bool) -> Self {
        let mut children = vec![Vec::new(); device.nodes().len()];
        // Two names may look the same: the first one wins.
        let mut paths = HashSet::new();
        for (index, node) in device.nodes().iter().enumerate() {
            if let Some(parent) = node.parent()
                && is_wanted(node.path())
                && paths.insert(shown(node.path()))
            {
                children[parent].push(index);
            }
        }
        Self { device, own, is_wanted, children }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.with_entries(options::base(), 0, "j", words);
        for builtin in builtin::ALL {
            let name = match command.find_subcommand(builtin.name) {
                Some(_) => format!("@{}", builtin.name),
                None => builtin.name.to_owned(),
            };
            command = command.subcommand(builtin.plain_command().name(name));
        }
        // `j qemu.power on` is hidden: lists and completions show it only if nothing else fits.
        let dotted =
            self.children.iter().flatten().filter(|index| self.node(**index).path().contains('.'));
        command.subcommands(dotted.map(|index| {
            self.of_node(*index, &shown(self.node(*index).path()), "j", words).hide(true)
        }))
    }

    fn node(&self, index: usize) -> &'a Node {
        &self.device.nodes()[index]
    }

    /// The command of a driver: the drivers below it and, if a word names it, its verbs.
    fn of_node(&self, index: usize, name: &str, prefix: &str, words: &[&str]) -> Command {
        let node = self.node(index);
        let command = Command::new(name.to_owned()).about(about(node));
        let Some(place) = words.iter().position(|word| *word == name) else { return command };
        let command = command
            .long_about(node.description().map_or_else(|| about(node), print::paragraphs))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .disable_help_subcommand(true)
            .subcommand_value_name("VERB");
        self.with_entries(command, index, &format!("{prefix} {name}"), &words[place + 1..])
    }

    fn with_entries(
        &self,
        mut command: Command,
        index: usize,
        prefix: &str,
        words: &[&str],
    ) -> Command {
        let node = self.node(index);
        command =
            command.subcommands(self.children[index].iter().map(|child| {
                self.of_node(*child, &shown(self.node(*child).name()), prefix, words)
            }));
        for action in action::of(node, self.own) {
            if (self.is_wanted)(&action.name()) && command.find_subcommand(action.name()).is_none()
            {
                command = command.subcommand(action.command(node, prefix));
            }
        }
        command
    }
}

/// The action that the arguments chose.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    /// The driver's path; empty for the root.
    pub(crate) path: String,
    pub(crate) action: Action,
    /// The arguments of the action.
    pub(crate) matches: &'a ArgMatches,
}

/// Finds the action that the arguments chose.
pub(crate) fn chosen<'a>(
    device: &Device,
    own: &OwnMethods,
    matches: &'a ArgMatches,
) -> Result<Chosen<'a>> {
    let nodes = device.nodes();
    let (mut index, mut matches) = (0, matches);
    // Subcommands of the verb (`resize disk`) are left to it.
    while let Some((name, below)) = matches.subcommand() {
        matches = below;
        let child = |node: &Node| match index {
            0 if name.contains('.') => shown(node.path()) == name,
            _ => node.parent() == Some(index) && shown(node.name()) == name,
        };
        if let Some(child) = nodes.iter().position(child) {
            index = child;
            continue;
        }
        let said = action::of(&nodes[index], own).into_iter().find(|action| action.name() == name);
        let builtin = || builtin::ALL.iter().find(|verb| verb.name == name.trim_start_matches('@'));
        if let Some(action) = said.or_else(|| Some(Action::Verb(builtin()?, None))) {
            return Ok(Chosen { path: nodes[index].path().to_owned(), action, matches });
        }
    }
    Err(Error::internal("the command line chose no verb").into())
}
