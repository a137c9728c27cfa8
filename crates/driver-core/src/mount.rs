//! Mounts: branches of a device's tree that belong to another device.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::arguments::Arguments;
use crate::call::{Caller, Reply, Resource};
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::error::{Error, Result};
use crate::image::Encoding;
use crate::node::{self, Node};
use crate::path::{join, shown};
use crate::references::{PlaceKind, References};
use crate::{bounds, proxies};

/// A branch of another device that replaces a driver, whose [`Driver::mount`](crate::Driver::mount)
/// returns it; [`Device::mount`](crate::Device::mount) makes one. Clones, and branches, belong to
/// the same device.
///
/// The tree shows the branch as it was when the driver was opened. Calls go to the current device:
/// a lost one can be [replaced](crate::Device::remount) by one with the same tree.
///
/// ```
/// use std::sync::Arc;
/// use jumpstarter_driver_core::prelude::*;
/// use jumpstarter_driver_core::{Mount, Planned, Registry};
///
/// /// Stands for a device that is open already.
/// struct Elsewhere(Mount);
///
/// impl Driver for Elsewhere {
///     fn mount(&self) -> Option<Mount> {
///         Some(self.0.clone())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let composite = Registry::linked().find("composite")?;
/// let child = Planned::driver("a", composite, serde_json::json!({}));
/// let plan = Planned::group("rack").with_child(child);
/// let other = Device::open(&[plan]).await?;
/// let device = Device::of_driver(Elsewhere(other.mount("rack")?));
/// assert_eq!(device.nodes()[1].path(), "a");
/// # device.close().await }
/// ```
#[derive(Clone)]
pub struct Mount {
    place: Arc<Place>,
    /// The position of the branch's root among the place's nodes.
    root: usize,
}

/// The drivers of mounts that a tree already shows, with their numbers there. Another branch of the
/// same device shows the same driver, not a second one.
pub(crate) type Known = HashMap<(usize, usize), usize>;

/// Shared by all mounts of one device.
struct Place {
    /// The tree, as it was when the driver was opened.
    nodes: Arc<[Node]>,
    /// The nodes of the device that is called now.
    current: RwLock<Arc<[Node]>>,
}

impl Place {
    fn current(&self) -> Arc<[Node]> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Mount {
    /// A mount of the branch at `path` of a device with these nodes.
    pub(crate) fn new(nodes: Arc<[Node]>, path: &str) -> Result<Self> {
        let place = Arc::new(Place { current: RwLock::new(nodes.clone()), nodes });
        Self { place, root: 0 }.branch(path)
    }

    /// Makes a mount of the branch at `path`, from this one's root.
    ///
    /// # Errors
    /// `NotFound` for a path that does not exist, with the existing ones.
    pub fn branch(&self, path: &str) -> Result<Self> {
        let path = match self.nodes()[self.root].path() {
            "" => path.to_owned(),
            own if path.is_empty() => own.to_owned(),
            own => join(own, path),
        };
        node::find(&self.place.current(), &path)?;
        let root = self.nodes().iter().position(|node| node.path() == path);
        let root = root.ok_or_else(|| {
            Error::not_found(format!("there was no `{}` when the device was opened", shown(&path)))
        })?;
        Ok(Self { place: self.place.clone(), root })
    }

    pub(crate) fn replace(&self, nodes: Arc<[Node]>) -> Result<()> {
        let is_lost = |shown: &&Node| node::find(&nodes, shown.path()).is_err();
        if let Some(lost) = self.nodes().iter().find(is_lost) {
            let message = format!("`{}` is not there any more", lost.path());
            return Err(Error::failed_precondition(message)
                .with_hint("start the exporter again, which reads the tree anew"));
        }
        *self.place.current.write().unwrap_or_else(PoisonError::into_inner) = nodes;
        Ok(())
    }

    fn nodes(&self) -> &[Node] {
        &self.place.nodes
    }

    /// The root of the branch, as the device shows it.
    pub(crate) fn root(&self) -> &Node {
        &self.nodes()[self.root]
    }

    /// The way to the driver at that position.
    fn caller(&self, index: usize) -> Arc<dyn Caller> {
        Arc::new(MountedCaller { place: self.place.clone(), index })
    }

    /// The way to the driver of its root.
    pub(crate) fn root_caller(&self) -> Arc<dyn Caller> {
        self.caller(self.root)
    }

    /// Identifies the driver of a node among those of all mounts.
    fn key(&self, node: &Node) -> (usize, usize) {
        (Arc::as_ptr(&self.place).addr(), node.id)
    }

    /// The positions of the nodes directly below.
    fn below(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let nodes = self.nodes().iter().enumerate().skip(parent + 1);
        nodes.filter(move |(_, node)| node.parent == Some(parent)).map(|(index, _)| index)
    }

    /// The branches directly below.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&str, Mount)> {
        self.below(self.root).map(|index| {
            (self.nodes()[index].name(), Mount { place: self.place.clone(), root: index })
        })
    }

    /// Makes `node`, which replaces the driver of this mount, the branch's root.
    pub(crate) fn stand_in(&self, node: &mut Node, known: &mut Known) {
        let root = self.root();
        node.id = *known.entry(self.key(root)).or_insert(node.id);
        node.description = node.description.take().or_else(|| root.description.clone());
        if node.methods_description.is_empty() {
            node.methods_description.clone_from(&root.methods_description);
        }
        node.client.clone_from(&root.client);
        node.labels.clone_from(&root.labels);
        node.interfaces.clone_from(&root.interfaces);
        node.unknown_interfaces.clone_from(&root.unknown_interfaces);
        node.interfaces_told = root.interfaces_told;
        node.interfaces_guessed = root.interfaces_guessed;
        node.caller = self.root_caller();
    }

    /// Adds the nodes below the branch's root, whose node is the last one, at that depth.
    pub(crate) fn add_below(
        &self,
        depth: usize,
        nodes: &mut Vec<Node>,
        references: &mut References,
        known: &mut Known,
    ) -> Result<()> {
        let (first, base) = (self.root, nodes.len() - 1);
        let mut depths = vec![depth];
        // A tree lists the nodes below a node right after it.
        let below = self.nodes().iter().enumerate().skip(first + 1);
        for (index, shown) in below {
            let Some(parent) = shown.parent.filter(|parent| *parent >= first) else { break };
            let depth = depths[parent - first] + 1;
            bounds::admit(&shown.name, depth, nodes.len()).map_err(proxies::too_large)?;
            depths.push(depth);
            let parent = base + parent - first;
            let mut node = shown.clone();
            node.id = *known.entry(self.key(shown)).or_insert(nodes.len());
            node.path = join(&nodes[parent].path, &node.name);
            node.parent = Some(parent);
            node.driver_type = nodes[base].driver_type;
            node.driver = None; // the device of the mount closes it
            node.caller = self.caller(index);
            references.add(parent, &node.name, PlaceKind::Known);
            nodes.push(node);
        }
        Ok(())
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({:?})", self.root())
    }
}

/// Calls a driver of the mount's current device.
struct MountedCaller {
    place: Arc<Place>,
    index: usize,
}

impl MountedCaller {
    fn now(&self) -> Result<Arc<dyn Caller>> {
        let path = self.place.nodes[self.index].path();
        let nodes = self.place.current();
        // The same tree has it at the same position.
        let there = nodes.get(self.index).filter(|node| node.path() == path);
        let node = there.map_or_else(|| node::find(&nodes, path), Ok)?;
        Ok(node.caller().clone())
    }
}

#[async_trait]
impl Caller for MountedCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        self.now()?.invoke(method, kind, arguments).await
    }

    fn invoke_interface<'a>(
        &'a self,
        interface: &'static InterfaceDescriptor,
        method: &'a str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(
            async move { self.now()?.invoke_interface(interface, method, kind, arguments).await },
        )
    }

    fn is_elsewhere(&self) -> bool {
        self.now().is_ok_and(|caller| caller.is_elsewhere())
    }

    async fn open_resource(&self, encoding: Option<Encoding>) -> Result<Resource> {
        self.now()?.open_resource(encoding).await
    }
}
