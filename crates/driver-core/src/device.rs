//! The handle to a device: typed and untyped calls to the drivers of its tree by path.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::channel::Channel;
use crate::config::ExporterConfig;
use crate::driver::{Child, Driver, Gauge};
use crate::error::{Error, Result};
use crate::interface::{Caller, Interface, InterfaceDescriptor, MethodKind, ValueStream};
use crate::suggest;
use crate::tree::{self, shown};

/// A node of the tree as reports show it.
#[derive(Clone)]
pub struct Node {
    pub(crate) id: usize,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) parent: Option<usize>,
    pub(crate) description: Option<String>,
    pub(crate) methods_description: Vec<(String, String)>,
    pub(crate) client: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) interfaces: Vec<&'static InterfaceDescriptor>,
    pub(crate) interfaces_known: bool,
    pub(crate) caller: Arc<dyn Caller>,
    pub(crate) driver: Option<Arc<dyn Driver>>,
    pub(crate) pending: bool,
}

impl Node {
    /// Which driver it is: a proxy has the number of the driver that it stands for.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Its key under its parent; empty for the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its dotted path; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The position of its parent in [`Device::nodes`]; none for the root.
    pub fn parent(&self) -> Option<usize> {
        self.parent
    }

    /// What it is, for people.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Help for its methods, by name, that replaces the interface's.
    pub fn methods_description(&self) -> &[(String, String)] {
        &self.methods_description
    }

    /// The import path of its Python client class.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Further labels.
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }

    /// Its interfaces, in order.
    pub fn interfaces(&self) -> &[&'static InterfaceDescriptor] {
        &self.interfaces
    }

    /// Whether [`Node::interfaces`] tells all. Of a driver elsewhere that this program does not know nothing can be
    /// told: any interface may be tried on it, and each call shows whether it has it.
    pub fn interfaces_known(&self) -> bool {
        self.interfaces_known
    }

    /// Its driver's figures for monitoring; a proxy has none, since its target shows them.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.driver.as_ref().map(|driver| driver.gauges()).unwrap_or_default()
    }

    /// The way to its driver.
    pub fn caller(&self) -> &Arc<dyn Caller> {
        &self.caller
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces: Vec<&str> = self.interfaces.iter().map(|interface| interface.name).collect();
        write!(f, "{} {interfaces:?}", shown(&self.path))
    }
}

/// A device: the handle to a tree of drivers. Cheap to clone; usable from many tasks.
///
/// Close it with [`Device::close`]. Dropping the last clone drops the drivers, which release what they can without
/// waiting.
#[derive(Clone, Debug)]
pub struct Device(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: Vec<Node>,
    closed: AtomicBool,
    remote: Option<Arc<dyn Remote>>,
}

/// The other end of a device that is elsewhere: what is asked of the whole device, not of one driver.
#[async_trait]
pub trait Remote: fmt::Debug + Send + Sync {
    /// Resets every driver.
    ///
    /// # Errors
    /// The device's own, or those of the connection.
    async fn reset(&self) -> Result<()>;

    /// Ends the connection. The drivers stay as they are.
    ///
    /// # Errors
    /// Those of the connection.
    async fn close(&self) -> Result<()>;
}

/// A node of a device that is elsewhere.
pub struct RemoteNode {
    /// Which driver it is: proxies of one driver have the same number.
    pub id: usize,
    /// Its key under its parent; empty for the root.
    pub name: String,
    /// The position of its parent, which comes before it; none for the root, which is the first.
    pub parent: Option<usize>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Help for its methods, by name.
    pub methods_description: Vec<(String, String)>,
    /// The import path of its Python client class.
    pub client: String,
    /// Further labels.
    pub labels: Vec<(String, String)>,
    /// Its interfaces, as far as this program knows them; none where nothing can be told.
    pub interfaces: Option<Vec<&'static InterfaceDescriptor>>,
    /// The way to its driver.
    pub caller: Arc<dyn Caller>,
}

impl fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteNode({} under {:?})", self.name, self.parent)
    }
}

impl Device {
    /// Opens the drivers of an exporter file, in its order, children before the parent that is given them.
    ///
    /// # Errors
    /// The first driver's that fails, with its path; those that are open already are closed again.
    pub async fn open(config: &ExporterConfig) -> Result<Self> {
        tree::open(config).await.map(Self::of_nodes)
    }

    /// A device of one open driver, at the root (path `""`), and the children that it has itself.
    ///
    /// # Panics
    /// Never for a driver whose children have different names.
    pub fn of_driver(driver: impl Driver) -> Self {
        Self::of_shared_driver(Arc::new(driver))
    }

    /// As [`Device::of_driver`], for a driver that is held elsewhere too.
    pub fn of_shared_driver(driver: Arc<dyn Driver>) -> Self {
        let nodes =
            tree::flatten(Child::new("", driver)).expect("a driver's own children have different names");
        Self::of_nodes(nodes)
    }

    /// The handle to a device that is elsewhere, from the nodes of its tree: for clients.
    ///
    /// Its [`reset`](Device::reset) and [`close`](Device::close) are those of `remote`.
    ///
    /// # Errors
    /// `DataLoss` when the nodes form no tree: a parent that does not come before its child, no root or several, two
    /// children of one name.
    pub fn remote(nodes: Vec<RemoteNode>, remote: Arc<dyn Remote>) -> Result<Self> {
        let mut known: Vec<Node> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let path = match node.parent {
                None if known.is_empty() => String::new(),
                None => return Err(Error::data_loss(format!("`{}` is a second root", node.name))),
                Some(parent) => {
                    let parent = known.get(parent).ok_or_else(|| {
                        Error::data_loss(format!("the parent of `{}` does not come before it", node.name))
                    })?;
                    tree::join(&parent.path, &node.name)
                }
            };
            if known.iter().any(|other| other.path == path) {
                return Err(Error::data_loss(format!("there are two drivers at `{path}`")));
            }
            known.push(Node {
                id: node.id,
                name: node.name,
                path,
                parent: node.parent,
                description: node.description.filter(|text| !text.is_empty()),
                methods_description: node.methods_description,
                client: node.client,
                labels: node.labels,
                interfaces_known: node.interfaces.is_some(),
                interfaces: node.interfaces.unwrap_or_default(),
                caller: node.caller,
                driver: None,
                pending: false,
            });
        }
        if known.is_empty() {
            return Err(Error::data_loss("the tree has no root"));
        }
        Ok(Self(Arc::new(Shared { nodes: known, closed: AtomicBool::new(false), remote: Some(remote) })))
    }

    fn of_nodes(nodes: Vec<Node>) -> Self {
        Self(Arc::new(Shared { nodes, closed: AtomicBool::new(false), remote: None }))
    }

    /// The tree, depth first, a parent before its children, the root first.
    pub fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }

    /// The node at `path`; `""` is the root.
    ///
    /// # Errors
    /// `NotFound`, with the paths that exist.
    pub fn node(&self, path: &str) -> Result<&Node> {
        self.0.nodes.iter().find(|node| node.path == path).ok_or_else(|| {
            let paths = self.0.nodes.iter().map(Node::path).filter(|path| !path.is_empty());
            Error::not_found(format!("there is no `{path}` in this device"))
                .with_hint(suggest::hint(path, paths))
        })
    }

    /// The driver at `path` by one of its interfaces: `device.get::<dyn Power>("qemu.power")`.
    ///
    /// # Errors
    /// `NotFound` for a path that does not exist, `Unimplemented` for an interface that the driver lacks; each lists
    /// what there is. Where [`Node::interfaces_known`] is false there is no error: the calls tell.
    pub fn get<I: Interface + ?Sized>(&self, path: &str) -> Result<Arc<I>> {
        let node = self.node(path)?;
        let wanted = I::DESCRIPTOR.name;
        if !node.interfaces_known || node.interfaces.iter().any(|interface| interface.name == wanted) {
            return Ok(I::remote(node.caller.clone()));
        }
        let names: Vec<&str> = node.interfaces.iter().map(|interface| interface.name).collect();
        let message = format!("`{}` has no interface `{wanted}`", shown(path));
        let holders: Vec<&str> = self
            .0
            .nodes
            .iter()
            .filter(|node| node.interfaces.iter().any(|interface| interface.name == wanted))
            .map(Node::path)
            .collect();
        let elsewhere = match holders.as_slice() {
            [] => String::new(),
            some => format!("; `{wanted}` is at {}", suggest::list(some.iter().copied())),
        };
        Err(Error::unimplemented(message)
            .with_hint(format!("its interfaces: {}{elsewhere}", suggest::list(names.iter().copied()))))
    }

    /// Calls a unary method by name with positional arguments.
    ///
    /// # Errors
    /// `NotFound` for an unknown path or method, `InvalidArgument` for wrong arguments, else the driver's own.
    pub async fn call(&self, path: &str, method: &str, arguments: Vec<Value>) -> Result<Value> {
        self.node(path)?.invoke(method, MethodKind::Unary, arguments).await?.into_value()
    }

    /// Calls a streaming method by name.
    ///
    /// # Errors
    /// As [`Device::call`].
    pub async fn stream(
        &self,
        path: &str,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<ValueStream<Value>> {
        self.node(path)?.invoke(method, MethodKind::Stream, arguments).await?.into_stream()
    }

    /// Opens a channel by the method's name.
    ///
    /// # Errors
    /// As [`Device::call`].
    pub async fn connect(&self, path: &str, method: &str) -> Result<Channel> {
        self.node(path)?.invoke(method, MethodKind::Channel, Vec::new()).await?.into_channel()
    }

    /// Resets every driver, in the tree's order.
    ///
    /// # Errors
    /// The first driver's that fails; the others are reset all the same.
    pub async fn reset(&self) -> Result<()> {
        if let Some(remote) = &self.0.remote {
            return remote.reset().await;
        }
        let mut result = Ok(());
        for node in &self.0.nodes {
            let Some(driver) = &node.driver else { continue };
            let outcome =
                driver.reset().await.map_err(|error| error.context(format!("resetting `{}`", node.path)));
            result = result.and(outcome);
        }
        result
    }

    /// Closes every driver: a parent before its children, siblings in reverse. Of a device that is elsewhere it ends
    /// the connection and leaves the drivers as they are. Idempotent.
    ///
    /// # Errors
    /// The first driver's that fails; the others are closed all the same.
    pub async fn close(&self) -> Result<()> {
        if self.0.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(remote) = &self.0.remote {
            return remote.close().await;
        }
        let mut result = Ok(());
        for index in self.closing_order() {
            let node = &self.0.nodes[index];
            let Some(driver) = &node.driver else { continue };
            let outcome = driver
                .close()
                .await
                .map_err(|error| error.context(format!("closing `{}`", shown(&node.path))));
            result = result.and(outcome);
        }
        result
    }

    fn closing_order(&self) -> Vec<usize> {
        let nodes = &self.0.nodes;
        let mut order = Vec::with_capacity(nodes.len());
        let mut open: Vec<usize> = if nodes.is_empty() { Vec::new() } else { vec![0] };
        while let Some(index) = open.pop() {
            order.push(index);
            // Pushed in the file's order, so the last sibling is taken first.
            open.extend((0..nodes.len()).filter(|child| nodes[*child].parent == Some(index)));
        }
        order
    }
}

impl Node {
    async fn invoke(
        &self,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Value>,
    ) -> Result<crate::interface::Reply> {
        self.caller.invoke(method, kind, arguments.into_iter().collect::<Arguments>()).await
    }
}
