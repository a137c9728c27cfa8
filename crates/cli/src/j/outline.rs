//! `j tree`: prints the tree of drivers.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::{Device, Network, Node};
use jumpstarter_driver_qemu::Machine;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::context::Context;
use super::names;
use super::verb::Say;
use crate::fault::{Result, SUCCESS};
use crate::table;

/// The longest wait for a driver's state and address. Later answers are omitted.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait for all drivers together.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(3);
/// The most drivers that are asked at once.
const AT_ONCE: usize = 64;

/// Shows the device's tree of drivers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`? NAME` is an interface, or the client class of a driver, that this program does not know; `→ PATH` is another name for a driver.

Examples:
  j tree
  j tree qemu
  j tree --output json

JSON: {\"path\", \"name\", \"description\", \"client\", \"labels\", \"interfaces\" (null if unknown), \"same_as\",
\"state\", \"address\", \"methods\" (name and description), \"children\"} of the root")]
pub(crate) struct Tree {
    /// Show only this driver and the drivers below it
    path: Option<String>,
}

impl Say for Tree {
    const NAME: &'static str = "tree";

    async fn run(self, context: &Context) -> Result<u8> {
        tree(context, self.path.as_deref().unwrap_or(".")).await
    }
}

/// What a driver reports about its state, if asking is cheap.
#[derive(Debug, Default)]
struct Live {
    state: Option<String>,
    address: Option<String>,
}

async fn tree(context: &Context, path: &str) -> Result<u8> {
    let device = context.device();
    let path = names::find(device, path)?.path();
    let top = device.nodes().iter().position(|node| node.path() == path).unwrap_or_default();
    let mut outline = Outline::new(device);
    outline.ask(top).await;
    let mut rows = Vec::new();
    if !path.is_empty() || !action_less(&device.nodes()[top]) {
        rows.push(outline.row(top, ""));
    }
    outline.add_rows(top, "", rows.is_empty(), &mut rows);
    let text = table::aligned(&rows, context.output.environment().width());
    context.output.answer_lines(&outline.value(top), text.trim_end())?;
    Ok(SUCCESS)
}

/// Whether the node is only a group.
fn action_less(node: &Node) -> bool {
    node.interfaces_known() && node.interfaces().is_empty()
}

/// A device's tree, with the drivers' live states.
struct Outline<'a> {
    device: &'a Device,
    /// The indices of each driver's children.
    children: Vec<Vec<usize>>,
    /// For a driver's number, the node that names it.
    named: HashMap<usize, usize>,
    live: HashMap<usize, Live>,
}

impl<'a> Outline<'a> {
    fn new(device: &'a Device) -> Self {
        let mut children = vec![Vec::new(); device.nodes().len()];
        let mut named: HashMap<usize, usize> = HashMap::new();
        let depth = |index: usize| device.nodes()[index].path().matches('.').count();
        for (index, node) in device.nodes().iter().enumerate() {
            if let Some(parent) = node.parent() {
                children[parent].push(index);
            }
            // The exporter does not report which of two names is the alias: a name at the top wins
            // over a deeper one, an earlier over a later one.
            let name = named.entry(node.id()).or_insert(index);
            if depth(index) > depth(*name) {
                *name = index;
            }
        }
        Self { device, children, named, live: HashMap::new() }
    }

    fn node(&self, index: usize) -> &'a Node {
        &self.device.nodes()[index]
    }

    /// The path of the driver that this node is an alias of.
    fn same_as(&self, index: usize) -> Option<&'a str> {
        let named = self.named.get(&self.node(index).id()).copied().unwrap_or(index);
        (named != index).then(|| self.node(named).path())
    }

    /// The nodes to show: `top` and those below it.
    fn below(&self, top: usize) -> Vec<usize> {
        let (mut found, mut open) = (vec![top], self.children[top].clone());
        while let Some(index) = open.pop() {
            found.push(index);
            if self.same_as(index).is_none() {
                open.extend(&self.children[index]);
            }
        }
        found
    }

    /// Asks the shown drivers for their states and addresses.
    async fn ask(&mut self, top: usize) {
        let device = self.device;
        let until = Instant::now() + PATIENCE_WITH_ALL;
        let asking = stream::iter(self.below(top)).map(|index| async move {
            let late = Instant::now() >= until;
            let asking = async {
                if late { Live::default() } else { ask(device, &device.nodes()[index]).await }
            };
            (index, timeout_at(until, asking).await.unwrap_or_default())
        });
        self.live = asking.buffer_unordered(AT_ONCE).collect().await;
    }

    fn row(&self, index: usize, branch: &str) -> Vec<String> {
        let node = self.node(index);
        let name = if node.path().is_empty() { "(root)" } else { node.name() };
        let kind = match self.same_as(index) {
            Some(path) => format!("→ {path}"),
            None => kind(node),
        };
        let live = self.live.get(&index);
        let now =
            live.and_then(|live| live.state.clone().or(live.address.clone())).unwrap_or_default();
        let description = node.description().unwrap_or_default().lines().next().unwrap_or_default();
        vec![format!("{branch}{name}"), kind, now, description.to_owned()]
    }

    fn add_rows(&self, index: usize, indent: &str, top: bool, rows: &mut Vec<Vec<String>>) {
        let children = &self.children[index];
        for (position, child) in children.iter().enumerate() {
            let last = position + 1 == children.len();
            let (branch, below) = match (top, last) {
                (true, _) => ("", ""),
                (false, true) => ("└─ ", "   "),
                (false, false) => ("├─ ", "│  "),
            };
            rows.push(self.row(*child, &format!("{indent}{branch}")));
            if self.same_as(*child).is_none() {
                self.add_rows(*child, &format!("{indent}{below}"), false, rows);
            }
        }
    }

    fn value(&self, index: usize) -> Value {
        let node = self.node(index);
        let labels: serde_json::Map<String, Value> = node
            .labels()
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let methods: serde_json::Map<String, Value> = node
            .methods_description()
            .iter()
            .map(|(name, text)| (name.clone(), text.clone().into()))
            .collect();
        let same_as = self.same_as(index);
        let children: Vec<Value> = match same_as {
            Some(_) => Vec::new(),
            None => self.children[index].iter().map(|child| self.value(*child)).collect(),
        };
        let live = self.live.get(&index);
        json!({
            "path": node.path(),
            "name": node.name(),
            "description": node.description(),
            "client": node.client(),
            "labels": labels,
            "interfaces": node.interface_names(),
            "same_as": same_as,
            "state": live.and_then(|live| live.state.as_deref()),
            "address": live.and_then(|live| live.address.as_deref()),
            "methods": methods,
            "children": children,
        })
    }
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
    // Late and missing answers are omitted.
    timeout(PATIENCE, asking).await.ok();
    live
}

/// The driver's interfaces, as far as they are known.
fn kind(node: &Node) -> String {
    if node.interface_names().is_none() {
        return format!("? {}", node.client());
    }
    let known = node.interfaces().iter().map(|interface| interface.name.to_owned());
    let unknown = node.unknown_interfaces().iter().map(|name| format!("? {name}"));
    known.chain(unknown).collect::<Vec<_>>().join(", ")
}
