//! What the suite needs to know of a driver: how to make one, and what it claims to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{
    Driver, DriverConfig, Flasher, Interface, InterfaceDescriptor, Network, OpenContext, Power,
    Registry, Serial,
};
use serde_json::Value;

use crate::instance::{Handles, Instance, Mode};

type Add<D> = Box<dyn Fn(&Arc<D>, &mut Handles) + Send + Sync>;

/// A driver to be tested: [`conformance!`](crate::conformance) makes one, or a tool of its own.
pub struct Fixture<C: DriverConfig> {
    configuration: Box<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>,
    listed: Vec<&'static InterfaceDescriptor>,
    add: Vec<Add<C::Driver>>,
    pub(crate) deadline: Duration,
    pub(crate) settle: Duration,
    pub(crate) waived: Vec<(&'static str, &'static str)>,
    /// Whether it can run here; says why not.
    pub(crate) needs: fn() -> bool,
    options: Options,
}

/// What the driver's author says about the other side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The network's peer sends back what it gets.
    pub(crate) echo: bool,
    /// The target to flash, if not the default.
    pub(crate) target: Option<String>,
    /// A failed flash cannot leave the old image.
    pub(crate) in_place: bool,
    /// Every name is a target.
    pub(crate) any_target: bool,
    /// Images are kept as they come: compressed ones stay so.
    pub(crate) as_is: bool,
}

impl<C: DriverConfig> fmt::Debug for Fixture<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.listed.iter().map(|interface| interface.name).collect();
        f.debug_struct("Fixture")
            .field("driver", &C::NAME)
            .field("interfaces", &names)
            .finish_non_exhaustive()
    }
}

impl<C: DriverConfig> Fixture<C> {
    /// A driver without interfaces yet; `configuration` is called once a case, in a tokio runtime.
    pub fn new(
        configuration: impl Fn() -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        Self {
            configuration: Box::new(configuration),
            listed: Vec::new(),
            add: Vec::new(),
            deadline: Duration::from_secs(30),
            settle: Duration::from_secs(10),
            waived: Vec::new(),
            needs: || true,
            options: Options::default(),
        }
    }

    /// How long a case may take, 30 seconds if not said.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long what a close releases may take to disappear, 10 seconds if not said.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Skips the cases of a duty that is a SHOULD.
    #[must_use]
    pub fn waive(mut self, duty: &'static str, reason: &'static str) -> Self {
        self.waived.push((duty, reason));
        self
    }

    /// Skips every case where `needs` says no, after a [`skip`](crate::skip()) with the reason: for
    /// drivers of programs that are not installed everywhere.
    #[must_use]
    pub fn needs(mut self, needs: fn() -> bool) -> Self {
        self.needs = needs;
        self
    }

    /// Lists an interface of the driver's own; `cast` is `|driver| driver`.
    #[must_use]
    pub fn custom<I: Interface + ?Sized>(mut self, cast: fn(Arc<C::Driver>) -> Arc<I>) -> Self {
        self.listed.push(I::DESCRIPTOR);
        self.add.push(Box::new(move |driver, handles| handles.add::<I>(cast(Arc::clone(driver)))));
        self
    }

    /// Lists [`Power`].
    #[must_use]
    pub fn power(mut self) -> Self
    where
        C::Driver: Power,
    {
        self.add.push(Box::new(|driver, handles| handles.power = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Power>(|driver| driver)
    }

    /// Lists [`Network`].
    #[must_use]
    pub fn network(mut self) -> Self
    where
        C::Driver: Network,
    {
        self.add.push(Box::new(|driver, handles| handles.network = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Network>(|driver| driver)
    }

    /// Lists [`Serial`].
    #[must_use]
    pub fn serial(mut self) -> Self
    where
        C::Driver: Serial,
    {
        self.add.push(Box::new(|driver, handles| handles.serial = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Serial>(|driver| driver)
    }

    /// Lists [`Flasher`].
    #[must_use]
    pub fn flasher(mut self) -> Self
    where
        C::Driver: Flasher,
    {
        self.add.push(Box::new(|driver, handles| handles.flasher = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Flasher>(|driver| driver)
    }

    /// Says that the network's peer sends back what it gets.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.options.echo = true;
        self
    }

    /// Says that the serial port sends back what it gets.
    #[must_use]
    pub fn loopback(self) -> Self {
        self
    }

    /// Names the target to flash.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.options.target = Some(target.into());
        self
    }

    /// Says that a failed flash cannot leave the old image: only its error is checked.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.options.in_place = true;
        self
    }

    /// Says that images can be flashed under any name.
    #[must_use]
    pub fn any_target(mut self) -> Self {
        self.options.any_target = true;
        self
    }

    /// Says that images are kept as they come, compressed ones too.
    #[must_use]
    pub fn as_is(mut self) -> Self {
        self.options.as_is = true;
        self
    }

    /// Evaluates the configuration.
    pub(crate) async fn configure(&self) -> Value {
        (self.configuration)().await
    }

    /// Opens an instance.
    pub(crate) async fn open(&self, configuration: Value, mode: Mode) -> Result<Instance, String> {
        let config: C = serde_json::from_value(configuration)
            .map_err(|error| format!("the configuration: {error}"))?;
        if let Some(problem) = config.check().into_iter().next() {
            return Err(format!("the configuration: {}: {}", problem.field, problem.message));
        }
        let named_children = config.children();
        let opened = config.open(OpenContext::at("subject")).await;
        let driver = Arc::new(opened.map_err(|error| format!("opening failed: {error:?}"))?);
        let mut handles = Handles::default();
        for add in &self.add {
            add(&driver, &mut handles);
        }
        let driver: Arc<dyn Driver> = driver;
        let registered = Registry::linked()
            .find(C::NAME)
            .map(|entry| (entry.interfaces)())
            .map_err(|error| error.report());
        let (options, listed) = (self.options.clone(), self.listed.clone());
        Ok(Instance::new(mode, driver, handles, options, listed, registered, named_children))
    }
}
