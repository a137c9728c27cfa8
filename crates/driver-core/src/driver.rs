//! The driver trait, and how drivers are configured and opened.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::arguments::Arguments;
use crate::call::{Caller, Reply};
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::error::{Error, Result};
use crate::gauge::Gauge;
use crate::interface::{Interface, Interfaces};
use crate::mount::Mount;
use crate::problem::ConfigProblem;
use crate::suggest;

/// A driver: one node of a device's tree.
///
/// A driver lists its interfaces; an ability that it lacks is an interface that it does not list.
/// It knows neither its name nor its place: those belong to the tree.
#[async_trait]
#[diagnostic::on_unimplemented(
    note = "`impl Driver for {Self}` lists the interfaces that it offers"
)]
pub trait Driver: Send + Sync + 'static {
    /// The interfaces of this driver; the first one names its Python client.
    ///
    /// [`interfaces!`](crate::interfaces) writes this method and
    /// [`declared_interfaces`](Driver::declared_interfaces) from one list.
    fn interfaces(&self) -> Interfaces<'_> {
        Interfaces::new()
    }

    /// The interfaces of every driver of this type: the registry reports them without an instance.
    fn declared_interfaces() -> Vec<&'static InterfaceDescriptor>
    where
        Self: Sized,
    {
        Vec::new()
    }

    /// The children that this driver made, in display order. The tree adds those of its `children:`
    /// in the exporter file that are not listed here under the same name.
    fn children(&self) -> Vec<Child> {
        Vec::new()
    }

    /// The import path of the Python client class, if it is not its first interface's.
    fn client(&self) -> Option<&str> {
        None
    }

    /// Further labels for reports.
    fn labels(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Help for its methods, by name: for a driver whose configuration names them. A description in
    /// the exporter file wins.
    fn methods_description(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Current figures for monitoring. They are read often and at any time: this must not wait.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }

    /// The branch of another device that stands in its place: its root in the driver's, with all
    /// that is below. What the driver itself offers is not shown then.
    fn mount(&self) -> Option<Mount> {
        None
    }

    /// Whether something that the driver runs, such as the guest of a virtual machine, can open
    /// connections through this host and to the host's loopback. It then also reaches listeners
    /// that are meant for this host only.
    fn reaches_host(&self) -> bool {
        false
    }

    /// Brings the driver back to the state in which it was opened. Idempotent.
    ///
    /// # Errors
    /// The device's errors.
    async fn reset(&self) -> Result<()> {
        Ok(())
    }

    /// Opens again what was lost, such as a process that has ended, and keeps the driver's state
    /// otherwise. Called between the sessions of clients. Idempotent.
    ///
    /// # Errors
    /// Why it cannot be opened. Calls fail then.
    async fn renew(&self) -> Result<()> {
        Ok(())
    }

    /// Releases everything. Idempotent. Calls after it may fail. The tree closes the driver's
    /// children.
    ///
    /// # Errors
    /// The device's errors, after everything that could be released was released.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// A child of a driver in the tree.
#[derive(Clone)]
#[non_exhaustive]
pub struct Child {
    /// Its key under its parent.
    pub name: String,
    /// Shared with the tree, which closes it.
    pub driver: Arc<dyn Driver>,
    /// What the child is, for people.
    pub description: Option<String>,
    /// Help for its methods, by name, that replaces the interface's.
    pub methods_description: Vec<(String, String)>,
    /// The type in the exporter file; `None` for a child that a driver made.
    pub(crate) driver_type: Option<&'static str>,
    /// For a proxy: the path, from the root, of its target.
    pub(crate) reference: Option<String>,
    /// The drivers of its `children:` in the exporter file.
    pub(crate) configured: Vec<Child>,
    /// As [`DriverConfig::IS_INDEPENDENT`].
    pub(crate) is_independent: bool,
}

impl Child {
    /// Makes a child without a description.
    pub fn new(name: impl Into<String>, driver: Arc<dyn Driver>) -> Self {
        Self {
            name: name.into(),
            driver,
            description: None,
            methods_description: Vec::new(),
            driver_type: None,
            reference: None,
            configured: Vec::new(),
            is_independent: false,
        }
    }

    /// Adds a description for people.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Returns one of the child's interfaces: `context.child("power")?.get::<dyn Power>()?`.
    ///
    /// # Errors
    /// `Unimplemented` for an interface that the driver lacks, with a list of those that it has;
    /// `FailedPrecondition` for a proxy (`ref`), whose target may not be open yet.
    pub fn get<I: Interface + ?Sized>(&self) -> Result<Arc<I>> {
        let name = &self.name;
        if let Some(target) = &self.reference {
            let message = format!("the child `{name}` is a proxy of `{target}`");
            return Err(Error::failed_precondition(message)
                .with_hint("write the driver itself here, and the proxy where it was"));
        }
        let wanted = I::DESCRIPTOR.name;
        if let Some(mount) = self.driver.mount() {
            let names = mount.root().interface_names();
            if names.as_ref().is_none_or(|names| names.contains(&wanted)) {
                return Ok(I::remote(mount.root_caller()));
            }
            return Err(lacks(name, wanted, names.unwrap_or_default()));
        }
        let interfaces = self.driver.interfaces();
        if interfaces.descriptors().any(|interface| interface.name == wanted) {
            return Ok(I::remote(Arc::new(LocalCaller(self.driver.clone()))));
        }
        Err(lacks(name, wanted, interfaces.descriptors().map(|interface| interface.name)))
    }

    /// Returns a child of this one, made by its driver or configured in the exporter file.
    ///
    /// # Errors
    /// `NotFound`, with the existing names.
    pub fn child(&self, name: &str) -> Result<Child> {
        let mount = self.driver.mount();
        let mounted = mount.iter().flat_map(Mount::children);
        let mounted = mounted.map(|(name, branch)| Child::new(name, Arc::new(Mounted(branch))));
        let own = self.driver.children().into_iter();
        let children: Vec<Child> =
            mounted.chain(own).chain(self.configured.iter().cloned()).collect();
        find(&children, name).cloned()
    }
}

/// The driver that represents the branch of a mount.
struct Mounted(Mount);

impl Driver for Mounted {
    fn mount(&self) -> Option<Mount> {
        Some(self.0.clone())
    }
}

fn lacks<'a>(name: &str, wanted: &str, has: impl IntoIterator<Item = &'a str>) -> Error {
    let message = format!("the child `{name}` has no interface `{wanted}`");
    Error::unimplemented(message).with_hint(format!("its interfaces: {}", suggest::list(has)))
}

fn find<'a>(children: &'a [Child], name: &str) -> Result<&'a Child> {
    children.iter().find(|child| child.name == name).ok_or_else(|| {
        let names = children.iter().map(|child| child.name.as_str());
        Error::not_found(format!("there is no child `{name}`"))
            .with_hint(suggest::hint(name, names))
    })
}

/// Calls one open driver of this process.
pub(crate) struct LocalCaller(pub(crate) Arc<dyn Driver>);

#[async_trait]
impl Caller for LocalCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        self.0.interfaces().call(None, method, kind, arguments).await
    }

    fn invoke_interface<'a>(
        &'a self,
        interface: &'static InterfaceDescriptor,
        method: &'a str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> BoxFuture<'a, Result<Reply>> {
        let call =
            async move { self.0.interfaces().call(Some(interface), method, kind, arguments).await };
        Box::pin(call)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({} {:?})", self.name, self.driver.interfaces())
    }
}

/// A child that a driver will make, known from its configuration before the driver is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedChild {
    /// Its key under its parent.
    pub name: String,
    /// The interfaces that it will have, in order.
    pub interfaces: Vec<&'static InterfaceDescriptor>,
}

impl PlannedChild {
    /// A child without interfaces.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), interfaces: Vec::new() }
    }

    /// Adds an interface: `PlannedChild::new("power").with::<dyn Power>()`.
    #[must_use]
    pub fn with<I: Interface + ?Sized>(mut self) -> Self {
        self.interfaces.push(I::DESCRIPTOR);
        self
    }
}

/// A child that a driver uses, and that the exporter file must name under its `children:`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WantedChild {
    /// Its key under the driver.
    pub name: String,
    /// The interfaces that the driver uses.
    pub interfaces: Vec<&'static InterfaceDescriptor>,
    /// Whether the driver does not open without it.
    pub is_required: bool,
    /// Whether a reference (`ref`) will do: its driver may not be open yet when this one opens.
    pub may_be_reference: bool,
}

impl WantedChild {
    /// A child that the driver needs: it does not open without it.
    pub fn required(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            interfaces: Vec::new(),
            is_required: true,
            may_be_reference: false,
        }
    }

    /// A child that may be omitted.
    pub fn optional(name: impl Into<String>) -> Self {
        Self { is_required: false, ..Self::required(name) }
    }

    /// Permits a reference, for a child that the driver does not use itself.
    #[must_use]
    pub fn or_reference(mut self) -> Self {
        self.may_be_reference = true;
        self
    }

    /// Adds an interface: `WantedChild::required("power").with::<dyn Power>()`.
    #[must_use]
    pub fn with<I: Interface + ?Sized>(mut self) -> Self {
        self.interfaces.push(I::DESCRIPTOR);
        self
    }
}

/// What the drivers of one device have in common, by type.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Shared {
    fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = all.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        one.clone().downcast().unwrap_or_default()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// The place and the children of a driver that is being opened.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct OpenContext {
    /// Its dotted path from the root, such as `rack.qemu`.
    pub path: String,
    /// The drivers of its `children:`, already open. The tree shows them below it.
    pub children: Vec<Child>,
    pub(crate) shared: Shared,
}

impl OpenContext {
    /// A context for a driver at `path`, without children.
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Returns one of its `children:`, for [`Child::get`]. Name it in
    /// [`DriverConfig::wanted_children`] too, so that `jmp check` reports a missing one.
    ///
    /// # Errors
    /// `NotFound`, with the existing names.
    pub fn child(&self, name: &str) -> Result<&Child> {
        find(&self.children, name)
    }

    /// Whether the exporter file has a child of that name: for optional children.
    pub fn has_child(&self, name: &str) -> bool {
        self.children.iter().any(|child| child.name == name)
    }

    /// What the drivers of the device have in common of that type, made for the first that asks.
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.shared.get()
    }

    /// Its key under its parent.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Its dotted path from the root.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The configuration of a driver: it names the driver, checks itself and opens the driver.
///
/// Put [`#[config]`](macro@crate::config) on it: its derives and the doc comments of the fields
/// make the checks of exporter files, the schema and the tables of `jmp drivers`. Register it with
/// [`register_driver!`](crate::register_driver).
#[async_trait]
pub trait DriverConfig: DeserializeOwned + JsonSchema + Send + 'static {
    /// The short name in exporter files.
    const NAME: &'static str;
    /// The import paths of the Python drivers that it replaces.
    const PYTHON_NAMES: &'static [&'static str] = &[];
    /// Other names under which fields are often written: pairs of that name and the field that is
    /// meant, such as `("memory", "mem")`. They are refused; the fault's hint names the field.
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[];
    /// The driver that it opens.
    type Driver: Driver;

    /// Whether it hosts the drivers that no other of the program is named for: it opens whatever an
    /// exporter file names by a dotted path and the program lacks, and stands for it.
    const HOSTS_OTHERS: bool = false;

    /// Whether it uses no other driver of the device, nor anything that another one opens. The
    /// independent drivers of a device are opened, reset and closed at the same time: it is for
    /// drivers that wait for something outside this process. One with `children:` in the exporter
    /// file is opened in the order of the file all the same.
    const IS_INDEPENDENT: bool = false;

    /// Returns problems beyond the types: ranges, fields that exclude each other. Must not use
    /// files, devices or the network.
    fn check(&self) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// Returns what does not work on this machine now although the configuration is right, such as
    /// a missing file. `jmp check` and the loading of the file show it as warnings; nothing is
    /// refused. It may read files, and runs on a thread that may block.
    fn warnings(&self) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// Every child that the driver may make. References of an exporter file to other children are
    /// refused before anything is opened, and help shows the children's methods. `None` if only
    /// opening the driver can decide; by default it makes none.
    fn children(&self) -> Option<Vec<PlannedChild>> {
        Some(Vec::new())
    }

    /// The children that the driver uses, which the exporter file names under its `children:`. A
    /// missing child or interface is a fault before anything is opened. Other children are allowed.
    fn wanted_children(&self) -> Vec<WantedChild> {
        Vec::new()
    }

    /// Opens the driver. After a cancellation or a failure nothing is left behind.
    ///
    /// # Errors
    /// The driver's errors.
    async fn open(self, context: OpenContext) -> Result<Self::Driver>;
}
