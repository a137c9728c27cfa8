//! The tree of drivers of an exporter file, before anything is opened.

use jumpstarter_driver_core::{InterfaceDescriptor, Planned, PlannedChild};
use serde_json::{Map, Value, json};

use crate::table;

/// One line for each entry, not longer than `width`: its name, driver, interfaces and description.
pub(crate) fn text(entries: &[Planned], width: Option<usize>) -> String {
    let mut rows = Vec::new();
    add_rows(&entries.iter().collect::<Vec<_>>(), "", true, &mut rows);
    table::aligned(&rows, width)
}

fn add_rows(entries: &[&Planned], indent: &str, top: bool, rows: &mut Vec<Vec<String>>) {
    for (index, planned) in entries.iter().enumerate() {
        let last = index + 1 == entries.len();
        let (branch, below) = match (top, last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let kind = match (planned.entry(), planned.target()) {
            (Some(entry), _) => match planned.hosted() {
                Some(class) => format!("{class} (Python)"),
                None => entry.name.to_owned(),
            },
            (None, Some(target)) => format!("→ {target}"),
            (None, None) => String::new(),
        };
        let description = planned.description().unwrap_or_default().lines().next();
        rows.push(vec![
            format!("{indent}{branch}{}", planned.name()),
            kind,
            names(&interfaces(planned)).join(", "),
            description.unwrap_or_default().to_owned(),
        ]);
        let indent = format!("{indent}{below}");
        let made = planned.own_children().unwrap_or_default();
        let named = named(planned, &made);
        for (index, child) in made.iter().enumerate() {
            let last = index + 1 == made.len() && named.is_empty();
            let branch = if last { "└─ " } else { "├─ " };
            rows.push(vec![
                format!("{indent}{branch}{}", child.name),
                String::new(),
                names(&child.interfaces).join(", "),
            ]);
        }
        add_rows(&named, &indent, false, rows);
    }
}

fn interfaces(planned: &Planned) -> Vec<&'static InterfaceDescriptor> {
    planned.entry().map(|entry| (entry.interfaces)()).unwrap_or_default()
}

fn names(interfaces: &[&'static InterfaceDescriptor]) -> Vec<&'static str> {
    interfaces.iter().map(|interface| interface.name).collect()
}

/// The entries as an object by name; every entry has every field. Configurations are omitted: they
/// may hold secrets.
pub(crate) fn json(entries: &[Planned]) -> Value {
    json_of(entries).into()
}

fn json_of<'a>(entries: impl IntoIterator<Item = &'a Planned>) -> Map<String, Value> {
    let entry = |planned: &Planned| {
        let made = planned.own_children().unwrap_or_default();
        let mut below: Map<String, Value> = Map::new();
        for child in &made {
            let value = json!({
                "type": null, "hosted": false, "ref": null, "interfaces": names(&child.interfaces),
                "description": null, "children": {},
            });
            below.insert(child.name.clone(), value);
        }
        below.extend(json_of(named(planned, &made)));
        let value = json!({
            "type": planned.hosted().or(planned.entry().map(|entry| entry.name)),
            "hosted": planned.hosted().is_some(), "ref": planned.target(),
            "interfaces": names(&interfaces(planned)), "description": planned.description(),
            "children": below,
        });
        (planned.name().to_owned(), value)
    };
    entries.into_iter().map(entry).collect()
}

/// The children that the file names, except those that the driver makes itself.
fn named<'a>(planned: &'a Planned, made: &[PlannedChild]) -> Vec<&'a Planned> {
    let is_named = |child: &&Planned| made.iter().all(|made| made.name != child.name());
    planned.children().iter().filter(is_named).collect()
}
