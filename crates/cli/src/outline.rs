//! The tree of drivers that an exporter file describes, as it is before anything is opened.

use jumpstarter_driver_core::PlannedChild;
use jumpstarter_driver_core::config::Node;
use jumpstarter_driver_core::interface::InterfaceDescriptor;
use serde_json::{Map, Value, json};

use crate::table;

/// One line an entry: its name, its driver, its interfaces, its description.
pub(crate) fn text(entries: &[(String, Node)]) -> String {
    let mut rows = Vec::new();
    add_rows(entries, "", true, &mut rows);
    table::aligned(&rows)
}

fn add_rows(entries: &[(String, Node)], indent: &str, top: bool, rows: &mut Vec<Vec<String>>) {
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
            Node::Proxy { target, description } => (format!("→ {target}"), String::new(), description),
        };
        let description = description.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        rows.push(vec![format!("{indent}{branch}{name}"), kind, interfaces, description.to_owned()]);
        let indent = format!("{indent}{below}");
        let (made, named) = (made(node), children(node));
        for (index, child) in made.iter().enumerate() {
            let last = index + 1 == made.len() && named.is_empty();
            let branch = if last { "└─ " } else { "├─ " };
            rows.push(vec![
                format!("{indent}{branch}{}", child.name),
                String::new(),
                names(&child.interfaces),
            ]);
        }
        add_rows(named, &indent, false, rows);
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

/// The same as an object by name. Configurations are left out: they may hold secrets.
pub(crate) fn json(entries: &[(String, Node)]) -> Value {
    let object: Map<String, Value> = entries
        .iter()
        .map(|(name, node)| {
            let mut value = match node {
                Node::Driver { entry, description, .. } => {
                    let names: Vec<&str> =
                        (entry.interfaces)().iter().map(|interface| interface.name).collect();
                    json!({"type": entry.name, "interfaces": names, "description": description})
                }
                Node::Composite { description, .. } => json!({"description": description}),
                Node::Proxy { target, description } => json!({"ref": target, "description": description}),
            };
            if !matches!(node, Node::Proxy { .. }) {
                let mut below = Map::new();
                for child in made(node) {
                    let names: Vec<&str> = child.interfaces.iter().map(|interface| interface.name).collect();
                    let value =
                        json!({"type": null, "interfaces": names, "description": null, "children": {}});
                    below.insert(child.name, value);
                }
                if let Value::Object(named) = json(children(node)) {
                    below.extend(named);
                }
                value["children"] = Value::Object(below);
            }
            (name.clone(), value)
        })
        .collect();
    Value::Object(object)
}

fn children(node: &Node) -> &[(String, Node)] {
    match node {
        Node::Driver { children, .. } | Node::Composite { children, .. } => children,
        Node::Proxy { .. } => &[],
    }
}
