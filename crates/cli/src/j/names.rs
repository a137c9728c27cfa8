//! The names of drivers on the command line and in lists.

use std::borrow::Cow;

use jumpstarter_driver_core::{Device, Node};

use crate::fault::{Fault, Result};
use crate::print::{self, line};

/// The driver's name on the command line, as lists show it.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    line(name)
}

/// The driver at a path, in its own or its shown spelling; `.` is the root.
pub(crate) fn find<'a>(device: &'a Device, path: &str) -> Result<&'a Node> {
    let path = if path == "." { "" } else { path };
    let meant =
        device.nodes().iter().find(|node| node.path() != path && shown(node.path()) == path);
    match device.node(path) {
        Ok(node) => Ok(node),
        Err(error) => meant.ok_or(Fault::Usage(error)),
    }
}

/// Describes a driver on one line.
pub(crate) fn about(node: &Node) -> String {
    if let Some(description) = node.description() {
        return print::first_line(description);
    }
    match node.interface_names() {
        None => print::first_line(node.client()),
        Some(names) if names.is_empty() => "a group of drivers".to_owned(),
        Some(names) => print::first_line(&names.join(", ")),
    }
}

/// Whether a shell takes it as a plain word: a shell executes its completions.
pub(crate) fn is_plain(word: &str) -> bool {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.:/@+,%".contains(letter);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}
