//! The nodes of a device's tree, local and remote.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::call::{Caller, Reply};
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::error::{Error, Result};
use crate::gauge::Gauge;
use crate::path::shown;
use crate::suggest;

/// The label of a network endpoint whose driver knows what its clients speak, such as `vnc`.
pub const PROTOCOL_LABEL: &str = "protocol";

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
    pub(crate) driver_type: Option<&'static str>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) interfaces: Vec<&'static InterfaceDescriptor>,
    pub(crate) unknown_interfaces: Vec<String>,
    pub(crate) interfaces_told: bool,
    pub(crate) interfaces_guessed: bool,
    pub(crate) caller: Arc<dyn Caller>,
    pub(crate) driver: Option<Arc<dyn LocalDriver>>,
}

/// A driver of this process, as far as its device uses it beside calls.
#[async_trait]
pub(crate) trait LocalDriver: Send + Sync {
    /// As [`DriverConfig::IS_INDEPENDENT`](crate::DriverConfig::IS_INDEPENDENT).
    fn is_independent(&self) -> bool;
    async fn reset(&self) -> Result<()>;
    async fn renew(&self) -> Result<()>;
    /// Closes it; a panic becomes an error.
    async fn close(&self) -> Result<()>;
    fn gauges(&self) -> Vec<Gauge>;
    fn reaches_host(&self) -> bool;
}

/// The node at `path`; `""` is the root.
///
/// # Errors
/// `NotFound`, with the existing paths.
pub(crate) fn find<'a>(nodes: &'a [Node], path: &str) -> Result<&'a Node> {
    nodes.iter().find(|node| node.path == path).ok_or_else(|| {
        let paths = nodes.iter().map(Node::path).filter(|path| !path.is_empty());
        Error::not_found(format!("there is no `{path}` in this device"))
            .with_hint(suggest::hint(path, paths))
    })
}

impl Node {
    /// A node of a remote device, for [`Device::remote`](crate::Device::remote), which sets its
    /// path.
    ///
    /// `id` identifies the driver: proxies of one driver share it. `name` is its key under its
    /// parent, empty for the root; `parent` is the position of its parent, which comes before it.
    /// `caller` is the way to its driver.
    pub fn remote(
        id: usize,
        name: impl Into<String>,
        parent: Option<usize>,
        caller: Arc<dyn Caller>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            path: String::new(),
            parent,
            description: None,
            methods_description: Vec::new(),
            client: String::new(),
            driver_type: None,
            labels: Vec::new(),
            interfaces: Vec::new(),
            unknown_interfaces: Vec::new(),
            interfaces_told: false,
            interfaces_guessed: false,
            caller,
            driver: None,
        }
    }

    /// Adds a description for people, and help for its methods by name.
    #[must_use]
    pub fn with_descriptions(
        mut self,
        description: Option<String>,
        methods: Vec<(String, String)>,
    ) -> Self {
        self.description = description.filter(|text| !text.is_empty());
        self.methods_description = methods;
        self
    }

    /// Adds the import path of its Python client class.
    #[must_use]
    pub fn with_client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Adds further labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Vec<(String, String)>) -> Self {
        self.labels = labels;
        self
    }

    /// Adds its interfaces: those that this program knows, and the names of the others. Without
    /// this call its interfaces are unknown.
    #[must_use]
    pub fn with_interfaces(
        mut self,
        known: Vec<&'static InterfaceDescriptor>,
        unknown: Vec<String>,
    ) -> Self {
        self.interfaces = known;
        self.unknown_interfaces = unknown;
        self.interfaces_told = true;
        self
    }

    /// Adds the interfaces that its client class implies, if its exporter does not report them.
    #[must_use]
    pub fn with_guessed_interfaces(mut self, known: Vec<&'static InterfaceDescriptor>) -> Self {
        self.interfaces_guessed = true;
        self.with_interfaces(known, Vec::new())
    }

    /// Identifies its driver: a proxy has the number of its target.
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

    /// The position of its parent in [`Device::nodes`](crate::Device::nodes); `None` for the root.
    pub fn parent(&self) -> Option<usize> {
        self.parent
    }

    /// What the node is, for people.
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

    /// The [type](crate::registry::DriverEntry::type_name) of its driver in the exporter file; for
    /// a driver that another one made, the maker's. `None` for a driver that no file names, and for
    /// a remote one.
    pub fn driver_type(&self) -> Option<&'static str> {
        self.driver_type
    }

    /// Further labels.
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }

    /// Its interfaces that this program knows, in order.
    pub fn interfaces(&self) -> &[&'static InterfaceDescriptor] {
        &self.interfaces
    }

    /// Whether [`Node::interfaces`] is complete. For a remote driver it may not be: the driver has
    /// [others](Node::unknown_interfaces), or its interfaces are [unknown](Node::interface_names).
    pub fn interfaces_known(&self) -> bool {
        self.interfaces_told && self.unknown_interfaces.is_empty()
    }

    /// Whether its client class implies its interfaces, instead of its exporter reporting them.
    pub fn interfaces_guessed(&self) -> bool {
        self.interfaces_guessed
    }

    /// The names of interfaces of a remote driver that this program does not know, such as a third
    /// party's: their methods can be called by name only.
    pub fn unknown_interfaces(&self) -> &[String] {
        &self.unknown_interfaces
    }

    /// The names of all its interfaces, those known to this program first. `None` if the exporter
    /// does not report them: any interface may be tried, and each call shows whether the driver has
    /// it.
    pub fn interface_names(&self) -> Option<Vec<&str>> {
        let known = self.interfaces.iter().map(|interface| interface.name);
        let names = known.chain(self.unknown_interfaces.iter().map(String::as_str));
        self.interfaces_told.then(|| names.collect())
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
        let known = self.interfaces.iter().map(|interface| interface.name);
        let names: Vec<&str> =
            known.chain(self.unknown_interfaces.iter().map(String::as_str)).collect();
        write!(f, "{} {names:?}", shown(&self.path))
    }
}

impl Node {
    pub(crate) async fn invoke(
        &self,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Value>,
    ) -> Result<Reply> {
        self.caller.invoke(method, kind, arguments.into_iter().collect::<Arguments>()).await
    }
}
