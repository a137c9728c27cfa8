//! The tree of drivers that an exporter file describes, as it is before anything is opened.

use jumpstarter_driver_core::config::Node;
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
                let names: Vec<&str> = (entry.interfaces)().iter().map(|interface| interface.name).collect();
                (entry.name.to_owned(), names.join(", "), description)
            }
            Node::Composite { description, .. } => (String::new(), String::new(), description),
            Node::Proxy { target, description } => (format!("→ {target}"), String::new(), description),
        };
        let description = description.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        rows.push(vec![format!("{indent}{branch}{name}"), kind, interfaces, description.to_owned()]);
        add_rows(children(node), &format!("{indent}{below}"), false, rows);
    }
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
                value["children"] = json(children(node));
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
