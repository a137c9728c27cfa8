//! The tree of drivers that an exporter file describes, as it is before anything is opened.

use jumpstarter_driver_core::plan::Node;
use jumpstarter_driver_core::{InterfaceDescriptor, PlannedChild};
use serde_json::{Map, Value, json};

use crate::table;

/// One line an entry: its name, its driver, its interfaces, its description.
pub(crate) fn text(entries: &[(String, Node)]) -> String {
    let mut rows = Vec::new();
    add_rows(&entries.iter().collect::<Vec<_>>(), "", true, &mut rows);
    table::aligned(&rows)
}

fn add_rows(entries: &[&(String, Node)], indent: &str, top: bool, rows: &mut Vec<Vec<String>>) {
    for (index, (name, node)) in entries.iter().enumerate() {
        let last = index + 1 == entries.len();
        let (branch, below) = match (top, last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let (kind, interfaces, description) = match node {
            Node::Driver { entry, description, .. } => {
                (entry.name.to_owned(), names(&(entry.interfaces)()), description)
            }
            Node::Composite { description, .. } => (String::new(), String::new(), description),
            Node::Proxy { target, description } => {
                (format!("→ {target}"), String::new(), description)
            }
        };
        let description =
            description.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        rows.push(vec![
            format!("{indent}{branch}{name}"),
            kind,
            interfaces,
            description.to_owned(),
        ]);
        let indent = format!("{indent}{below}");
        let made = made(node);
        let named = named(node, &made);
        for (index, child) in made.iter().enumerate() {
            let last = index + 1 == made.len() && named.is_empty();
            let branch = if last { "└─ " } else { "├─ " };
            rows.push(vec![
                format!("{indent}{branch}{}", child.name),
                String::new(),
                names(&child.interfaces),
            ]);
        }
        add_rows(&named, &indent, false, rows);
    }
}

/// The children that a driver makes itself, as far as its configuration tells.
fn made(node: &Node) -> Vec<PlannedChild> {
    match node {
        Node::Driver { entry, config, .. } => (entry.children)(config.clone()).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn names(interfaces: &[&InterfaceDescriptor]) -> String {
    interfaces.iter().map(|interface| interface.name).collect::<Vec<_>>().join(", ")
}

/// The same as an object by name; every entry has every field. Configurations are left out: they
/// may hold secrets.
pub(crate) fn json(entries: &[(String, Node)]) -> Value {
    json_of(entries).into()
}

fn json_of<'a>(entries: impl IntoIterator<Item = &'a (String, Node)>) -> Map<String, Value> {
    let entry = |(name, node): &(String, Node)| {
        let (kind, target, interfaces, description) = match node {
            Node::Driver { entry, description, .. } => {
                (Some(entry.name), None, (entry.interfaces)(), description)
            }
            Node::Composite { description, .. } => (None, None, Vec::new(), description),
            Node::Proxy { target, description } => (None, Some(target), Vec::new(), description),
        };
        let made = made(node);
        let mut below: Map<String, Value> = Map::new();
        for child in &made {
            let value = json!({
                "type": null, "ref": null, "interfaces": plain(&child.interfaces), "description": null,
                "children": {},
            });
            below.insert(child.name.clone(), value);
        }
        below.extend(json_of(named(node, &made)));
        let value = json!({
            "type": kind, "ref": target, "interfaces": plain(&interfaces), "description": description,
            "children": below,
        });
        (name.clone(), value)
    };
    entries.into_iter().map(entry).collect()
}

fn plain(interfaces: &[&'static InterfaceDescriptor]) -> Vec<&'static str> {
    interfaces.iter().map(|interface| interface.name).collect()
}

/// The children that the file names, but for those in whose place the driver makes one.
fn named<'a>(node: &'a Node, made: &[PlannedChild]) -> Vec<&'a (String, Node)> {
    let children: &[(String, Node)] = match node {
        Node::Driver { children, .. } | Node::Composite { children, .. } => children,
        Node::Proxy { .. } => &[],
    };
    children.iter().filter(|(name, _)| made.iter().all(|child| child.name != *name)).collect()
}
