//! One opened driver, called directly or through proxies.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Child, Device, Driver, Error, Flasher, Interface,
    InterfaceDescriptor, MethodDescriptor, MethodKind, Network, PlannedChild, Power, Reply, Result,
    Serial, Shell, Storage, StorageMux,
};
use serde_json::Value;

use crate::fixture::Options;

/// How a case reaches the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The driver's own trait objects and adapters.
    Direct,
    /// The typed proxies over an in-process caller, where numbers become doubles as they do on the
    /// wire.
    Proxy,
    /// The typed proxies of a child that the driver makes.
    Child,
}

/// The adapter of any interface.
pub(crate) trait Adapter: Send + Sync {
    fn descriptor(&self) -> &'static InterfaceDescriptor;
    fn call<'a>(&'a self, method: &'a str, arguments: Arguments) -> BoxFuture<'a, Result<Reply>>;
}

struct Of<I: ?Sized>(Arc<I>);

impl<I: Interface + ?Sized> Adapter for Of<I> {
    fn descriptor(&self) -> &'static InterfaceDescriptor {
        I::DESCRIPTOR
    }
    fn call<'a>(&'a self, method: &'a str, arguments: Arguments) -> BoxFuture<'a, Result<Reply>> {
        self.0.call(method, arguments)
    }
}

/// The driver's interfaces, typed and as adapters.
#[derive(Default)]
pub(crate) struct Handles {
    pub(crate) power: Option<Arc<dyn Power>>,
    pub(crate) network: Option<Arc<dyn Network>>,
    pub(crate) serial: Option<Arc<dyn Serial>>,
    pub(crate) flasher: Option<Arc<dyn Flasher>>,
    pub(crate) storage: Option<Arc<dyn Storage>>,
    pub(crate) storage_mux: Option<Arc<dyn StorageMux>>,
    pub(crate) shell: Option<Arc<dyn Shell>>,
    adapters: Vec<Arc<dyn Adapter>>,
}

impl Handles {
    pub(crate) fn add<I: Interface + ?Sized>(&mut self, interface: Arc<I>) {
        self.adapters.push(Arc::new(Of(interface)));
    }
}

/// The opened driver that a case looks at.
pub struct Instance {
    mode: Mode,
    driver: Arc<dyn Driver>,
    handles: Handles,
    pub(crate) options: Options,
    /// The interfaces that the author lists.
    pub(crate) listed: Vec<&'static InterfaceDescriptor>,
    /// The interfaces that the registry reports, or why it does not know the driver.
    pub(crate) registered: std::result::Result<Vec<&'static InterfaceDescriptor>, String>,
    /// The children that the configuration names, if it names them.
    pub(crate) named_children: Option<Vec<PlannedChild>>,
    /// The children that the suite opened for the driver.
    pub(crate) configured: Vec<Child>,
    /// How long released resources may take to disappear.
    pub(crate) settle: Duration,
    /// The flasher's medium, as its author names it.
    pub(crate) medium: Option<PathBuf>,
    doing: Mutex<String>,
    dropped: AtomicBool,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({:?} {:?})", self.mode, self.driver.interfaces())
    }
}

impl Instance {
    pub(crate) fn new(
        mode: Mode,
        driver: Arc<dyn Driver>,
        handles: Handles,
        options: Options,
        listed: Vec<&'static InterfaceDescriptor>,
        registered: std::result::Result<Vec<&'static InterfaceDescriptor>, String>,
        named_children: Option<Vec<PlannedChild>>,
    ) -> Self {
        let (doing, dropped) = (Mutex::default(), AtomicBool::new(false));
        let configured = Vec::new();
        Self {
            mode,
            driver,
            handles,
            options,
            listed,
            registered,
            named_children,
            configured,
            medium: None,
            settle: Duration::ZERO,
            doing,
            dropped,
        }
    }

    /// The driver itself, for cases that need more than its interfaces.
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Notes the current step: the text of a missed deadline.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    pub(crate) fn was_doing(&self) -> String {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that the driver is dropped without a close.
    pub(crate) fn leave_unclosed(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_left_unclosed(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Closes the driver and then its children, the last one first, as the tree does.
    pub(crate) async fn close(&self) -> Result<()> {
        let mut outcome = close(Arc::clone(&self.driver)).await;
        for child in self.configured.iter().rev() {
            outcome = outcome.and(close(Arc::clone(&child.driver)).await);
        }
        outcome
    }

    fn choose<I: Interface + ?Sized>(&self, direct: Option<&Arc<I>>) -> Arc<I> {
        let direct =
            direct.expect("a case of an interface runs only where the interface is listed");
        match self.mode {
            Mode::Direct | Mode::Child => Arc::clone(direct),
            Mode::Proxy => I::remote(self.caller()),
        }
    }

    pub(crate) fn power(&self) -> Arc<dyn Power> {
        self.choose(self.handles.power.as_ref())
    }

    pub(crate) fn network(&self) -> Arc<dyn Network> {
        self.choose(self.handles.network.as_ref())
    }

    pub(crate) fn serial(&self) -> Arc<dyn Serial> {
        self.choose(self.handles.serial.as_ref())
    }

    pub(crate) fn flasher(&self) -> Arc<dyn Flasher> {
        self.choose(self.handles.flasher.as_ref())
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.choose(self.handles.storage.as_ref())
    }

    pub(crate) fn storage_mux(&self) -> Arc<dyn StorageMux> {
        self.choose(self.handles.storage_mux.as_ref())
    }

    pub(crate) fn shell(&self) -> Arc<dyn Shell> {
        self.choose(self.handles.shell.as_ref())
    }

    fn caller(&self) -> Arc<dyn Caller> {
        Arc::new(InProcess(self.handles.adapters.clone()))
    }

    /// Every method of every interface.
    pub(crate) fn methods(&self) -> Vec<Method> {
        let methods = |adapter: &Arc<dyn Adapter>| {
            let adapter = Arc::clone(adapter);
            adapter
                .descriptor()
                .methods
                .iter()
                .map(move |descriptor| Method { descriptor, adapter: Arc::clone(&adapter) })
                .collect::<Vec<_>>()
        };
        self.handles.adapters.iter().flat_map(methods).collect()
    }

    /// Calls a method of whichever interface has it, with values as arguments.
    pub(crate) async fn invoke(&self, method: &str, arguments: Vec<Value>) -> Result<Reply> {
        let adapters = self.handles.adapters.iter();
        let found = adapters.filter_map(|one| Some((one, one.descriptor().method(method)?.kind)));
        let (adapter, kind) = found
            .into_iter()
            .next()
            .ok_or_else(|| Error::not_found(format!("there is no method `{method}`")))?;
        let arguments = arguments.into_iter().map(Argument::Value).collect();
        self.call(adapter, method, kind, arguments).await
    }

    /// A child, which the driver made or got, as an interface.
    pub(crate) fn child<I: Interface + ?Sized>(
        &self,
        name: &str,
    ) -> std::result::Result<Arc<I>, String> {
        let made = self.driver.children();
        let child = made.iter().chain(&self.configured).find(|child| child.name == name);
        let child = child.ok_or_else(|| format!("it has no child `{name}`"))?;
        let device = Device::of_shared_driver(Arc::clone(&child.driver));
        device.get::<I>("").map_err(|error| format!("the child `{name}`: {}", error.report()))
    }

    /// The interfaces' adapters.
    pub(crate) fn adapters(&self) -> &[Arc<dyn Adapter>] {
        &self.handles.adapters
    }

    /// Calls a method by its name.
    pub(crate) fn call(
        &self,
        adapter: &Arc<dyn Adapter>,
        method: &str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> BoxFuture<'static, Result<Reply>> {
        let (adapter, method, caller) = (Arc::clone(adapter), method.to_owned(), self.caller());
        match self.mode {
            Mode::Direct | Mode::Child => {
                Box::pin(async move { adapter.call(&method, arguments).await })
            }
            Mode::Proxy => Box::pin(async move { caller.invoke(&method, kind, arguments).await }),
        }
    }
}

/// A method and the way to it.
pub(crate) struct Method {
    pub(crate) descriptor: &'static MethodDescriptor,
    pub(crate) adapter: Arc<dyn Adapter>,
}

fn close(driver: Arc<dyn Driver>) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let mut outcome = driver.close().await;
        for child in driver.children().into_iter().rev() {
            outcome = outcome.and(close(child.driver).await);
        }
        outcome
    })
}

/// A caller without a wire.
struct InProcess(Vec<Arc<dyn Adapter>>);

#[async_trait]
impl Caller for InProcess {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        let adapter = self.0.iter().find(|adapter| adapter.descriptor().method(method).is_some());
        // The first interface refuses an unknown method.
        let adapter = adapter
            .or(self.0.first())
            .ok_or_else(|| Error::not_found("there are no interfaces"))?;
        if adapter.descriptor().method(method).is_some_and(|descriptor| descriptor.kind != kind) {
            return Err(Error::unimplemented(format!("`{method}` is not called as {kind:?}")));
        }
        let arguments = arguments.into_inner().into_iter().map(|argument| match argument {
            Argument::Value(value) => Argument::Value(doubles(value)),
            image => image,
        });
        adapter.call(method, arguments.collect()).await
    }
}

/// Converts every number to a double.
fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(doubles).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, doubles(value))).collect()
        }
        other => other,
    }
}
