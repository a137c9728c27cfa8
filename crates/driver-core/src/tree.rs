//! The tree of open drivers: the independent ones are opened together, then the others in the order
//! of the plan; proxies are spliced in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};

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
use crate::registry::DriverEntry;
use crate::{bounds, proxies};

/// Opens the drivers of `entries`. A failure closes those that are open already; a cancellation
/// drops them.
pub(crate) async fn open(entries: &[Planned]) -> Result<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    let mut opening = Opening::default();
    let mut result = opening.open_independent(entries).await;
    if result.is_ok() {
        result = opening.open_children(entries, "", &mut root).await;
    }
    let nodes = result.and_then(|()| flatten(root)).and_then(unambiguous);
    if nodes.is_err() {
        opening.close().await;
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
    child.is_independent = entry.entry().is_some_and(|driver| driver.is_independent);
    child
}

/// The drivers that are open so far.
#[derive(Default)]
struct Opening {
    shared: Shared,
    /// By path.
    independent: HashMap<String, Arc<dyn Driver>>,
    /// The others, in their order.
    opened: Vec<Arc<dyn Driver>>,
}

impl Opening {
    /// Opens the independent drivers at the same time. All are waited for: one that is interrupted
    /// could not release what it has already.
    async fn open_independent(&mut self, entries: &[Planned]) -> Result<()> {
        let mut found = Vec::new();
        find_independent(entries, "", &mut found);
        let open = found.into_iter().map(|(path, driver, entry)| {
            let context = OpenContext {
                path: path.clone(),
                children: Vec::new(),
                shared: self.shared.clone(),
            };
            let opened = (driver.open)(entry.config().clone(), context);
            async move { (path, opened.await) }
        });
        let mut result = Ok(());
        for (path, outcome) in join_all(open).await {
            match outcome {
                Ok(driver) => drop(self.independent.insert(path, driver)),
                Err(error) if result.is_ok() => result = Err(error),
                // Often for the same reason.
                Err(error) => tracing::debug!(error = %error.report(), "opening a device"),
            }
        }
        result
    }

    fn open_children<'a>(
        &'a mut self,
        entries: &'a [Planned],
        parent: &'a str,
        into: &'a mut Child,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for entry in entries {
                let path = join(parent, entry.name());
                let mut child = planned(entry);
                self.open_children(entry.children(), &path, &mut child).await?;
                if let Some(driver) = self.independent.get(&path) {
                    child.driver = driver.clone();
                } else if let Some(driver) = entry.entry() {
                    let (children, shared) = (child.configured.clone(), self.shared.clone());
                    let context = OpenContext { path, children, shared };
                    child.driver = (driver.open)(entry.config().clone(), context).await?;
                    self.opened.push(child.driver.clone());
                }
                into.configured.push(child);
            }
            Ok(())
        })
    }

    /// Closes what is open, after a failure.
    async fn close(self) {
        let close = async |driver: Arc<dyn Driver>| {
            if let Err(error) = close_driver(driver.as_ref()).await {
                tracing::warn!(error = %error.report(), "closing a driver after a failed start");
            }
        };
        for driver in self.opened.into_iter().rev() {
            close(driver).await;
        }
        join_all(self.independent.into_values().map(close)).await;
    }
}

/// The independent drivers of a plan that are opened before the others, with their paths.
fn find_independent<'a>(
    entries: &'a [Planned],
    parent: &str,
    into: &mut Vec<(String, &'static DriverEntry, &'a Planned)>,
) {
    for entry in entries {
        let path = join(parent, entry.name());
        find_independent(entry.children(), &path, into);
        let driver = entry.entry().filter(|driver| driver.is_independent);
        if let Some(driver) = driver.filter(|_| entry.children().is_empty()) {
            into.push((path, driver, entry));
        }
    }
}

/// A driver of the tree.
struct Opened {
    driver: Arc<dyn Driver>,
    is_independent: bool,
}

#[async_trait]
impl LocalDriver for Opened {
    fn is_independent(&self) -> bool {
        self.is_independent
    }

    async fn reset(&self) -> Result<()> {
        self.driver.reset().await
    }

    async fn renew(&self) -> Result<()> {
        self.driver.renew().await
    }

    async fn close(&self) -> Result<()> {
        close_driver(self.driver.as_ref()).await
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.driver.gauges()
    }

    fn reaches_host(&self) -> bool {
        self.driver.reaches_host()
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
    let (driver, is_independent) = (child.driver, child.is_independent);
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
        driver: Some(Arc::new(Opened { driver: driver.clone(), is_independent })),
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
