//! The tree of open drivers: opened from a plan in its order, proxies spliced in.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::ambiguity::Ambiguity;
use crate::builtin::{COMPOSITE_CLIENT, COMPOSITE_TYPE, Composite};
use crate::closing::close_driver;
use crate::driver::{Child, Driver, LocalCaller, OpenContext, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::gauge::Gauge;
use crate::mount::{Known, Mount};
use crate::node::{LocalDriver, Node};
use crate::path::{join, shown};
use crate::plan::Planned;
use crate::references::{PlaceKind, References};
use crate::{bounds, proxies};

/// Opens the drivers of `entries`. A failure closes those that are open already; a cancellation
/// drops them.
pub(crate) async fn open(entries: &[Planned]) -> Result<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    let mut opened = Vec::new();
    let shared = Shared::default();
    let result = open_children(entries, "", &shared, &mut root, &mut opened).await;
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

/// Refuses a driver with an ambiguous method: clients name only the driver and the method.
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

/// The child as the plan describes it, without its driver and its children.
pub(crate) fn planned(entry: &Planned) -> Child {
    let mut child = Child::new(entry.name(), Arc::new(Composite));
    child.description = entry.description().map(str::to_owned);
    child.methods_description = entry.methods_description().to_vec();
    child.reference = entry.target().map(str::to_owned);
    child.driver_type = match (entry.entry(), entry.target()) {
        (Some(driver), _) => Some(driver.type_name()),
        (None, None) => Some(COMPOSITE_TYPE),
        (None, Some(_)) => None,
    };
    child
}

fn open_children<'a>(
    entries: &'a [Planned],
    parent: &'a str,
    shared: &'a Shared,
    into: &'a mut Child,
    opened: &'a mut Vec<Arc<dyn Driver>>,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        for entry in entries {
            let path = join(parent, entry.name());
            let mut child = planned(entry);
            open_children(entry.children(), &path, shared, &mut child, opened).await?;
            if let Some(driver) = entry.entry() {
                let context = OpenContext {
                    path,
                    children: child.configured.clone(),
                    shared: shared.clone(),
                };
                child.driver = (driver.open)(entry.config().clone(), context).await?;
                opened.push(child.driver.clone());
            }
            into.configured.push(child);
        }
        Ok(())
    })
}

/// A driver of the tree.
struct Opened(Arc<dyn Driver>);

#[async_trait]
impl LocalDriver for Opened {
    async fn reset(&self) -> Result<()> {
        self.0.reset().await
    }

    async fn renew(&self) -> Result<()> {
        self.0.renew().await
    }

    async fn close(&self) -> Result<()> {
        close_driver(self.0.as_ref()).await
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.0.gauges()
    }

    fn reaches_host(&self) -> bool {
        self.0.reaches_host()
    }
}

/// Lists the tree depth first, a parent before its children, and puts each proxy's target in its
/// place.
pub(crate) fn flatten(root: Child) -> Result<Vec<Node>> {
    let (mut nodes, mut references) = (Vec::new(), References::new());
    let mut known = Known::new();
    visit(root, String::new(), None, 0, &mut nodes, &mut references, &mut known)?;
    match references.faults().into_iter().next() {
        Some(fault) => Err(fault.into()),
        None => proxies::follow(nodes, &references),
    }
}

fn visit(
    child: Child,
    path: String,
    parent: Option<usize>,
    depth: usize,
    nodes: &mut Vec<Node>,
    references: &mut References,
    known: &mut Known,
) -> Result<()> {
    bounds::admit(&child.name, depth, nodes.len()).map_err(proxies::too_large)?;
    let index = nodes.len();
    let maker = parent.and_then(|parent| nodes.get(parent)).and_then(|node| node.driver_type);
    if let Some(parent) = parent {
        let kind = child.reference.map_or(PlaceKind::Known, PlaceKind::Reference);
        references.add(parent, &child.name, kind);
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
    let mut methods_description = child.methods_description;
    for (method, text) in driver.methods_description() {
        if !methods_description.iter().any(|(written, _)| *written == method) {
            methods_description.push((method, text));
        }
    }
    nodes.push(Node {
        id: index,
        name: child.name,
        path: path.clone(),
        parent,
        description: child.description.filter(|text| !text.is_empty()),
        methods_description,
        client,
        driver_type: child.driver_type.or(maker),
        labels,
        interfaces,
        unknown_interfaces: Vec::new(),
        interfaces_told: true,
        interfaces_guessed: false,
        caller: Arc::new(LocalCaller(driver.clone())),
        driver: Some(Arc::new(Opened(driver.clone()))),
    });
    if let Some(mount) = driver.mount() {
        mount.stand_in(&mut nodes[index], known);
        mount.add_below(depth, nodes, references, known)?;
    }
    let mut own: HashSet<String> = children.iter().map(|child| child.name.clone()).collect();
    own.extend(driver.mount().iter().flat_map(Mount::children).map(|(name, _)| name.to_owned()));
    for configured in child.configured {
        if !own.contains(&configured.name) {
            children.push(configured);
        }
    }
    let mut names = HashSet::new();
    for child in children {
        if !names.insert(child.name.clone()) {
            let message = format!("`{}` has two children named `{}`", shown(&path), child.name);
            return Err(Error::already_exists(message));
        }
        let path = join(&path, &child.name);
        visit(child, path, Some(index), depth + 1, nodes, references, known)?;
    }
    Ok(())
}
