//! `j tree`: what the device is made of.

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

/// States and addresses that take longer are left out.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same, of all drivers together.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(3);
/// How many are asked at once.
const AT_ONCE: usize = 64;

/// Shows what the device is made of
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`? NAME` is an interface, or the client class of a driver, that this program does not know; `→ PATH` is another name for a driver.

Examples:
  j tree
  j tree qemu
  j tree --output json

JSON: {\"path\", \"name\", \"description\", \"client\", \"labels\", \"interfaces\" (null where not known), \"same_as\",
\"state\", \"address\", \"methods\" (name and description), \"children\"} of the root")]
pub(crate) struct Tree {
    /// Only what is below this driver
    path: Option<String>,
}

impl Say for Tree {
    const NAME: &'static str = "tree";

    async fn run(self, context: &Context) -> Result<u8> {
        tree(context, self.path.as_deref().unwrap_or(".")).await
    }
}

/// What a driver says of itself now, where that is cheap.
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
    let text = table::aligned(&rows);
    context.output.answer_lines(&outline.value(top), text.trim_end())?;
    Ok(SUCCESS)
}

/// Nothing but a group.
fn action_less(node: &Node) -> bool {
    node.interfaces_known() && node.interfaces().is_empty()
}

/// A device's tree, and what is told of it now.
struct Outline<'a> {
    device: &'a Device,
    /// Of each driver, those below it.
    children: Vec<Vec<usize>>,
    /// Of each driver, by its number, the node that has its name.
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
            // Which of two names is the other one is not told: a name at the top stands for one
            // further down, a later one for an earlier one.
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

    /// The path of the driver that this node is another name for.
    fn same_as(&self, index: usize) -> Option<&'a str> {
        let named = self.named.get(&self.node(index).id()).copied().unwrap_or(index);
        (named != index).then(|| self.node(named).path())
    }

    /// Those that are shown: the node, and what is below it.
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

    /// Asks the drivers that are shown for their states and addresses.
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
    // What is not told in time, or at all, is left out.
    timeout(PATIENCE, asking).await.ok();
    live
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
