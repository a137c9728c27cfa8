//! The handle to a device: typed and untyped calls to the drivers of its tree by path.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::backend::{Backend, Local};
use crate::bounds;
use crate::call::ValueStream;
use crate::channel::Channel;
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::driver::{Child, Driver};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::mount::Mount;
use crate::node::{self, Node};
use crate::outline;
use crate::path::{join, shown};
use crate::plan::Planned;
use crate::suggest;
use crate::tree;

mod close;

/// A device: the handle to a tree of drivers. Cheap to clone; usable from many tasks.
///
/// Close it with [`Device::close`]. Dropping the last clone drops the drivers, which release what
/// they can without waiting.
#[derive(Clone, Debug)]
pub struct Device(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: Arc<[Node]>,
    closing: OnceLock<close::Closing>,
    backend: Arc<dyn Backend>,
}

impl Device {
    /// The most drivers that a device may have, including those behind proxies.
    pub const MAX_DRIVERS: usize = bounds::MAX_DRIVERS;

    /// Opens the drivers of a plan: the [independent](crate::DriverConfig::IS_INDEPENDENT) ones at
    /// the same time, then the others in the plan's order. Children open before their parent, which
    /// receives them.
    ///
    /// # Errors
    /// The error of the first driver that fails, with its path; drivers that are already open are
    /// closed.
    pub async fn open(plan: &[Planned]) -> Result<Self> {
        tree::open(plan).await.map(Self::of_nodes)
    }

    /// The device of a plan before it is opened: tree, interfaces and descriptions as far as the
    /// plan knows them, for help. Every call is refused with `FailedPrecondition`. Children that a
    /// driver makes have no descriptions.
    ///
    /// `None` if the drivers are known only after opening
    /// ([`DriverConfig::children`](crate::DriverConfig::children)).
    pub fn unopened(plan: &[Planned]) -> Option<Self> {
        outline::nodes(plan).map(Self::of_nodes)
    }

    /// A device of one open driver, at the root (path `""`), and the driver's children.
    ///
    /// # Panics
    /// If the driver's own children are no tree that [`open`](Device::open) takes: two of them have
    /// one name, or they are too many or too deep.
    pub fn of_driver(driver: impl Driver) -> Self {
        Self::of_shared_driver(Arc::new(driver))
    }

    /// As [`Device::of_driver`], for a driver that is also held elsewhere.
    ///
    /// # Panics
    /// As [`Device::of_driver`].
    pub fn of_shared_driver(driver: Arc<dyn Driver>) -> Self {
        let nodes = tree::flatten(Child::new("", driver))
            .expect("a driver's own children have different names");
        Self::of_nodes(nodes)
    }

    /// The handle to a remote device, from the nodes of its tree: for clients.
    ///
    /// [`reset`](Device::reset) and [`close`](Device::close) call `backend`.
    ///
    /// # Errors
    /// `DataLoss` if the nodes form no tree: a parent that does not come before its child, no root
    /// or several, two children of one name. `ResourceExhausted` for more than 10,000 nodes, a
    /// depth above 60 levels, or a name longer than 255 bytes.
    pub fn remote(mut nodes: Vec<Node>, backend: Arc<dyn Backend>) -> Result<Self> {
        let mut depths: Vec<usize> = Vec::new();
        let mut paths = HashSet::new();
        for index in 0..nodes.len() {
            let (known, rest) = nodes.split_at_mut(index);
            let node = &mut rest[0];
            let depth =
                node.parent.and_then(|parent| depths.get(parent)).map_or(0, |depth| depth + 1);
            bounds::admit(&node.name, depth, index)
                .map_err(|excess| Error::resource_exhausted(excess.to_string()))?;
            node.path = match node.parent {
                None if index == 0 => String::new(),
                None => return Err(Error::data_loss(format!("`{}` is a second root", node.name))),
                Some(parent) => {
                    let parent = known.get(parent).ok_or_else(|| {
                        Error::data_loss(format!(
                            "the parent of `{}` does not come before it",
                            node.name
                        ))
                    })?;
                    join(&parent.path, &node.name)
                }
            };
            if !paths.insert(node.path.clone()) {
                let path = shown(&node.path);
                return Err(Error::data_loss(format!("there are two drivers at `{path}`")));
            }
            depths.push(depth);
        }
        if nodes.is_empty() {
            return Err(Error::data_loss("the tree has no root"));
        }
        Ok(Self::new(nodes.into(), backend))
    }

    fn of_nodes(nodes: Vec<Node>) -> Self {
        let nodes: Arc<[Node]> = nodes.into();
        Self::new(nodes.clone(), Arc::new(Local(nodes)))
    }

    fn new(nodes: Arc<[Node]>, backend: Arc<dyn Backend>) -> Self {
        Self(Arc::new(Shared { nodes, closing: OnceLock::new(), backend }))
    }

    /// The nodes of the tree, depth first: the root first, a parent before its children.
    pub fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }

    /// A mount of the branch at `path`; `""` is the whole device.
    ///
    /// # Errors
    /// `NotFound`, with the existing paths.
    pub fn mount(&self, path: &str) -> Result<Mount> {
        Mount::new(self.0.nodes.clone(), path)
    }

    /// Makes `mount` call this device from now on, which must have the same tree.
    ///
    /// # Errors
    /// `FailedPrecondition` if it lacks a driver of the tree that the mount shows.
    pub fn remount(&self, mount: &Mount) -> Result<()> {
        mount.replace(self.0.nodes.clone())
    }

    /// The paths of the local drivers [that reach this host](Driver::reaches_host).
    pub fn reaching_host(&self) -> impl Iterator<Item = &str> {
        let reaches =
            |node: &&Node| node.driver.as_ref().is_some_and(|driver| driver.reaches_host());
        self.nodes().iter().filter(reaches).map(Node::path)
    }

    /// The node at `path`; `""` is the root.
    ///
    /// # Errors
    /// `NotFound`, with the existing paths.
    pub fn node(&self, path: &str) -> Result<&Node> {
        node::find(&self.0.nodes, path)
    }

    /// The driver at `path` by one of its interfaces: `device.get::<dyn Power>("qemu.power")`.
    ///
    /// # Errors
    /// `NotFound` for a path that does not exist, `Unimplemented` for an interface that the driver
    /// lacks; each lists the existing ones. If the exporter does not report a driver's
    /// [interfaces](Node::interface_names), `get` succeeds and an unsupported call fails.
    pub fn get<I: Interface + ?Sized>(&self, path: &str) -> Result<Arc<I>> {
        let node = self.node(path)?;
        let wanted = I::DESCRIPTOR.name;
        let lacks = node.interface_names().filter(|names| !names.contains(&wanted));
        let is_driven = || {
            let of_client = InterfaceDescriptor::of_client(node.client());
            of_client.iter().any(|interface| interface.name == wanted)
        };
        let Some(names) = lacks.filter(|_| !is_driven()) else {
            return Ok(I::remote(node.caller.clone()));
        };
        let message = format!("`{}` has no interface `{wanted}`", shown(path));
        let holders = self
            .nodes()
            .iter()
            .filter(|node| node.interface_names().is_some_and(|names| names.contains(&wanted)))
            .map(Node::path);
        let elsewhere = match suggest::list(holders) {
            none if none == suggest::list([]) => String::new(),
            some => format!("; `{wanted}` is at {some}"),
        };
        let names = suggest::list(names);
        Err(Error::unimplemented(message).with_hint(format!("its interfaces: {names}{elsewhere}")))
    }

    /// Calls a unary method by name with positional arguments.
    ///
    /// # Errors
    /// `NotFound` for an unknown path or method, `InvalidArgument` for wrong arguments, else the
    /// driver's errors.
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

    /// Resets every driver: in the tree's order, then the independent ones at the same time.
    ///
    /// # Errors
    /// The first driver's error, after all drivers were reset.
    pub async fn reset(&self) -> Result<()> {
        self.0.backend.reset().await
    }

    /// Has every driver of this process open again what it lost, such as a process that has ended.
    /// One that works keeps its state.
    ///
    /// # Errors
    /// The error of the first driver that fails, after all were asked.
    pub async fn renew(&self) -> Result<()> {
        self.0.backend.renew().await
    }

    /// Closes every driver: a parent before its children, siblings in reverse, and then the
    /// independent ones at the same time. For a remote device it ends the connection and leaves the
    /// drivers open.
    ///
    /// Idempotent: the device is closed once; every call waits for that and returns its result.
    /// Cancelling a call stops only the waiting.
    ///
    /// # Errors
    /// The first driver's error or panic (`Internal`), after all drivers were closed.
    pub async fn close(&self) -> Result<()> {
        let shared = &self.0;
        let closing = shared.closing.get_or_init(|| close::start(shared.backend.clone()));
        closing.clone().await.map_err(|error| error.again())
    }
}
