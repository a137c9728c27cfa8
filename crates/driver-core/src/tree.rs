//! The tree of open drivers: opened from an exporter file in its order, proxies spliced in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::ambiguity::Ambiguity;
use crate::builtin::{COMPOSITE_CLIENT, COMPOSITE_TYPE, Composite};
use crate::device::{Node, close_driver};
use crate::driver::{Child, Driver, LocalCaller, OpenContext};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Node as ConfigNode;
use crate::{bounds, proxies};

/// Opens the drivers of `entries`. On failure those that are open already are closed; on
/// cancellation dropped.
pub(crate) async fn open(entries: &[(String, ConfigNode)]) -> Result<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    let mut opened = Vec::new();
    let result = open_children(entries, "", &mut root, &mut opened).await;
    let nodes = match result {
        Ok(()) => flatten(root).and_then(unambiguous),
        Err(error) => Err(error),
    };
    if nodes.is_err() {
        for driver in opened.into_iter().rev() {
            if let Err(error) = close_driver(driver.as_ref()).await {
                tracing::warn!(error = %error.report(), "closing a driver after a failed start");
            }
        }
    }
    nodes
}

/// Refuses drivers with a method that clients cannot choose: they name the driver and the method.
fn unambiguous(nodes: Vec<Node>) -> Result<Vec<Node>> {
    let found = nodes
        .iter()
        .find_map(|node| Ambiguity::find(node.interfaces()).map(|ambiguity| (node, ambiguity)));
    match found {
        Some((node, ambiguity)) => {
            let error = ambiguity.into_error(ErrorKind::AlreadyExists);
            Err(error.context(format!("opening `{}`", node.path())))
        }
        None => Ok(nodes),
    }
}

/// What the file says of a child, without its driver and its children.
pub(crate) fn planned(name: &str, entry: &ConfigNode) -> Child {
    let mut child = Child::new(name, Arc::new(Composite));
    let description = match entry {
        ConfigNode::Proxy { target, description } => {
            child.reference = Some(target.clone());
            description
        }
        ConfigNode::Composite { description, .. } => {
            child.driver_type = Some(COMPOSITE_TYPE);
            description
        }
        ConfigNode::Driver { entry, description, methods_description, .. } => {
            child.methods_description.clone_from(methods_description);
            child.driver_type = Some(entry.type_name());
            description
        }
    };
    child.description.clone_from(description);
    child
}

fn open_children<'a>(
    entries: &'a [(String, ConfigNode)],
    parent: &'a str,
    into: &'a mut Child,
    opened: &'a mut Vec<Arc<dyn Driver>>,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        for (name, entry) in entries {
            let path = join(parent, name);
            let mut child = planned(name, entry);
            match entry {
                ConfigNode::Proxy { .. } => {}
                ConfigNode::Composite { children, .. } => {
                    open_children(children, &path, &mut child, opened).await?;
                }
                ConfigNode::Driver { entry, config, children, .. } => {
                    open_children(children, &path, &mut child, opened).await?;
                    let context =
                        OpenContext { path: path.clone(), children: child.configured.clone() };
                    child.driver = (entry.open)(config.clone(), context).await?;
                    opened.push(child.driver.clone());
                }
            }
            into.configured.push(child);
        }
        Ok(())
    })
}

/// Lists the tree depth first, a parent before its children, and puts each proxy's target in its
/// place.
pub(crate) fn flatten(root: Child) -> Result<Vec<Node>> {
    let (mut nodes, mut targets) = (Vec::new(), HashMap::new());
    visit(root, String::new(), None, 0, &mut nodes, &mut targets)?;
    if targets.is_empty() {
        return Ok(nodes);
    }
    proxies::follow(&nodes, &targets)
}

fn visit(
    child: Child,
    path: String,
    parent: Option<usize>,
    depth: usize,
    nodes: &mut Vec<Node>,
    targets: &mut HashMap<usize, String>,
) -> Result<()> {
    bounds::admit(&child.name, depth, nodes.len()).map_err(proxies::too_large)?;
    let index = nodes.len();
    let maker = parent.and_then(|parent| nodes.get(parent)).and_then(|node| node.driver_type);
    if let Some(target) = child.reference {
        targets.insert(index, target);
    }
    let driver = child.driver;
    let (interfaces, client) = {
        let interfaces: Vec<_> = driver.interfaces().descriptors().collect();
        let first = interfaces.first().map_or(COMPOSITE_CLIENT, |interface| interface.client);
        let client = driver.client().unwrap_or(first).to_owned();
        (interfaces, client)
    };
    let mut children = driver.children();
    let labels = driver.labels();
    nodes.push(Node {
        id: index,
        name: child.name,
        path: path.clone(),
        parent,
        description: child.description.filter(|text| !text.is_empty()),
        methods_description: child.methods_description,
        client,
        driver_type: child.driver_type.or(maker),
        labels,
        interfaces,
        unknown_interfaces: Vec::new(),
        interfaces_told: true,
        caller: Arc::new(LocalCaller(driver.clone())),
        driver: Some(driver),
    });
    let own: HashSet<String> = children.iter().map(|child| child.name.clone()).collect();
    for configured in child.configured {
        if !own.contains(&configured.name) {
            children.push(configured);
        }
    }
    let mut names = HashSet::new();
    for child in children {
        if !names.insert(child.name.clone()) {
            let message = format!("`{}` has two children named `{}`", shown(&path), child.name);
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        let path = join(&path, &child.name);
        visit(child, path, Some(index), depth + 1, nodes, targets)?;
    }
    Ok(())
}

#[doc(hidden)]
pub fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// A path for people: the root has none.
pub(crate) fn shown(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}
