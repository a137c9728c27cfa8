//! `j tree`: what the device is made of.

use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgMatches};
use futures_util::future::join_all;
use jumpstarter_driver_core::device::Node;
use jumpstarter_driver_core::{Device, Network};
use jumpstarter_driver_qemu::Machine;
use serde_json::{Value, json};

use super::context::Context;
use super::fault::{Fault, SUCCESS};
use super::verbs::Verb;
use crate::table;

/// States and addresses that take longer are left out.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) const TREE: Verb = Verb {
    name: "tree",
    command: |command| {
        command
            .about("Shows what the device is made of")
            .arg(Arg::new("path").value_name("PATH").help("Only what is below this driver"))
            .after_help(
                "\
`? NAME` is an interface, or the client class of a driver, that this program does not know; `→ PATH` is another name for a driver.

Examples:
  j tree
  j tree qemu
  j tree --output json

JSON: {\"path\", \"name\", \"description\", \"client\", \"labels\", \"interfaces\" (null where not known), \"same_as\",
\"state\", \"address\", \"methods\" (name and description), \"children\"} of the root",
            )
    },
    run: |context, matches| Box::pin(tree(context, matches)),
};

/// What a driver says of itself now, where that is cheap.
#[derive(Debug, Default)]
struct Live {
    state: Option<String>,
    address: Option<String>,
}

async fn tree(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let device = &context.device;
    let path = matches.get_one::<String>("path").map_or("", |path| if path == "." { "" } else { path });
    device.node(path).map_err(Fault::Usage)?;
    let top = device.nodes().iter().position(|node| node.path() == path).unwrap_or_default();
    let live = join_all(device.nodes().iter().map(|node| ask(device, node))).await;
    let mut rows = Vec::new();
    if !path.is_empty() || !action_less(&device.nodes()[top]) {
        rows.push(row(device, top, &live, ""));
    }
    add_rows(device, top, &live, "", rows.is_empty(), &mut rows);
    let text = table::aligned(&rows);
    context.output.answer(&value(device, top, &live), text.trim_end())?;
    Ok(SUCCESS)
}

/// Nothing but a group.
fn action_less(node: &Node) -> bool {
    node.interfaces_known() && node.interfaces().is_empty()
}

async fn ask(device: &Device, node: &Node) -> Live {
    let has = |name: &str| node.interfaces().iter().any(|interface| interface.name == name);
    let mut live = Live::default();
    let asking = async {
        if has("machine") {
            let machine = device.get::<dyn Machine>(node.path()).ok()?;
            live.state = Some(machine.state().await.ok()?.phase().to_string());
        }
        if has("network") {
            let network = device.get::<dyn Network>(node.path()).ok()?;
            live.address = Some(network.address().await.ok()?);
        }
        Some(())
    };
    // What is not told in time, or at all, is left out.
    tokio::time::timeout(PATIENCE, asking).await.ok();
    live
}

/// The path of the driver that this node is another name for. Which of two names is the other one is not told: a name
/// at the top stands for one further down, a later one for an earlier one.
fn same_as<'a>(device: &'a Device, node: &Node) -> Option<&'a str> {
    let depth = |node: &Node| node.path().matches('.').count();
    let same = device.nodes().iter().filter(|other| other.id() == node.id());
    let named = same.max_by_key(|other| (depth(other), std::cmp::Reverse(position(device, other))))?;
    (named.path() != node.path()).then_some(named.path())
}

fn position(device: &Device, node: &Node) -> usize {
    device.nodes().iter().position(|other| other.path() == node.path()).unwrap_or_default()
}

fn children(device: &Device, index: usize) -> Vec<usize> {
    let nodes = device.nodes().iter().enumerate();
    nodes.filter(|(_, node)| node.parent() == Some(index)).map(|(child, _)| child).collect()
}

fn row(device: &Device, index: usize, live: &[Live], branch: &str) -> Vec<String> {
    let (node, live) = (&device.nodes()[index], &live[index]);
    let name = if node.path().is_empty() { "(root)" } else { node.name() };
    let kind = match same_as(device, node) {
        Some(path) => format!("→ {path}"),
        None => kind(node),
    };
    let now = live.state.as_deref().or(live.address.as_deref()).unwrap_or_default().to_owned();
    let description = node.description().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    vec![format!("{branch}{name}"), kind, now, description]
}

/// Its interfaces, or what is told of them.
fn kind(node: &Node) -> String {
    if node.interface_names().is_none() {
        return format!("? {}", node.client());
    }
    let known = node.interfaces().iter().map(|interface| interface.name.to_owned());
    let unknown = node.unknown_interfaces().iter().map(|name| format!("? {name}"));
    known.chain(unknown).collect::<Vec<_>>().join(", ")
}

fn add_rows(
    device: &Device,
    index: usize,
    live: &[Live],
    indent: &str,
    top: bool,
    rows: &mut Vec<Vec<String>>,
) {
    let children = children(device, index);
    for (position, child) in children.iter().enumerate() {
        let last = position + 1 == children.len();
        let (branch, below) = match (top, last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        rows.push(row(device, *child, live, &format!("{indent}{branch}")));
        if same_as(device, &device.nodes()[*child]).is_none() {
            add_rows(device, *child, live, &format!("{indent}{below}"), false, rows);
        }
    }
}

fn value(device: &Device, index: usize, live: &[Live]) -> Value {
    let node = &device.nodes()[index];
    let labels: serde_json::Map<String, Value> =
        node.labels().iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let methods: serde_json::Map<String, Value> =
        node.methods_description().iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
    let same_as = same_as(device, node);
    let children: Vec<Value> = match same_as {
        Some(_) => Vec::new(),
        None => children(device, index).into_iter().map(|child| value(device, child, live)).collect(),
    };
    json!({
        "path": node.path(),
        "name": node.name(),
        "description": node.description(),
        "client": node.client(),
        "labels": labels,
        "interfaces": node.interface_names(),
        "same_as": same_as,
        "state": live[index].state,
        "address": live[index].address,
        "methods": methods,
        "children": children,
    })
}
