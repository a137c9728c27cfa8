//! A driver for the suite: how to make an instance, and its claims.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{
    ByteSize, Child, Device, Driver, DriverConfig, Error, Flasher, Interface, InterfaceDescriptor,
    Network, OpenContext, Power, Registry, Serial, Shell, Storage, StorageMux,
};
use serde_json::Value;

use crate::duty::can_be_waived;
use crate::image;
use crate::instance::{Handles, Instance, Mode};

/// Options that only add cases.
macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(self) -> Self {
            self
        }
    )*};
}

/// The options of interfaces.
macro_rules! options {
    ($type:ident) => {
        impl<C: DriverConfig> $type<C> {
            /// Says that the network's peer echoes.
            #[must_use]
            pub fn echo(mut self) -> Self {
                self.options_mut().echo = true;
                self
            }

            marks! {
                /// Says that the serial port's other side echoes.
                loopback
                /// Adds the cases of a virtual device's switch.
                virtual_power
                /// Adds the cases of cameras: the camera has pictures.
                video
                /// Adds the cases of screens: the child `tcp` leads to one without a password.
                vnc
                /// Adds the cases of U-Boot: behind the child `serial` it waits at its prompt.
                uboot
            }

            /// Names the target to flash.
            #[must_use]
            pub fn target(mut self, target: impl Into<String>) -> Self {
                self.options_mut().target = Some(target.into());
                self
            }

            /// Says that a failed flash cannot leave the old image: only its error is checked.
            #[must_use]
            pub fn in_place(mut self) -> Self {
                self.options_mut().in_place = true;
                self
            }

            /// Says that any name is a target.
            #[must_use]
            pub fn any_target(mut self) -> Self {
                self.options_mut().any_target = true;
                self
            }

            /// Says that images are stored unchanged, even compressed ones.
            #[must_use]
            pub fn as_is(mut self) -> Self {
                self.options_mut().as_is = true;
                self
            }

            /// Names the configuration's field with the path of the medium: the file, folder or
            /// device that is written. The suite reads it after a refused or cancelled flash:
            /// nothing in it may have changed, and nothing may be added.
            #[must_use]
            pub fn medium(mut self, field: &'static str) -> Self {
                self.options_mut().medium = Some(field);
                self
            }

            /// Flashes images of this size, such as `5M`: larger than the pieces in which the
            /// driver writes and reads.
            ///
            /// # Panics
            /// If the text is not a size.
            #[must_use]
            pub fn size(mut self, size: &str) -> Self {
                let size: ByteSize = size.parse().expect("a size with its unit, such as 5M");
                // One byte more is not a multiple of any block.
                self.options_mut().size =
                    Some(usize::try_from(size.as_bytes()).map_or(usize::MAX, |size| size + 1));
                self
            }
        }
    };
}
options!(Fixture);
options!(ChildFixture);

type Configuration = Box<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;
type AddOfChild = fn(&Device, &mut Handles) -> Result<(), Error>;
type Add<D> = Box<dyn Fn(&Arc<D>, &mut Handles) + Send + Sync>;

/// A driver under test: [`conformance!`](crate::conformance), or another tool, makes one.
pub struct Fixture<C: DriverConfig> {
    configuration: Configuration,
    listed: Vec<&'static InterfaceDescriptor>,
    add: Vec<Add<C::Driver>>,
    configured: Option<Configuration>,
    child: Option<(&'static str, Vec<AddOfChild>)>,
    pub(crate) deadline: Duration,
    pub(crate) settle: Duration,
    pub(crate) waived: Vec<(&'static str, &'static str)>,
    /// Whether it can run here; it reports the reason if not.
    pub(crate) needs: fn() -> bool,
    options: Options,
}

/// The author's claims about the other side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The network's peer echoes.
    pub(crate) echo: bool,
    /// The target to flash, if not the default.
    pub(crate) target: Option<String>,
    /// A failed flash cannot leave the old image.
    pub(crate) in_place: bool,
    /// Every name is a target.
    pub(crate) any_target: bool,
    /// Images are stored unchanged, even compressed ones.
    pub(crate) as_is: bool,
    /// The length of the images in bytes, if not the usual one.
    pub(crate) size: Option<usize>,
    /// The configuration's field with the path of the medium.
    pub(crate) medium: Option<&'static str>,
    /// Arguments for methods, by the method's name.
    pub(crate) given: Vec<(&'static str, Vec<Value>)>,
}

impl Options {
    pub(crate) fn old_image(&self) -> Vec<u8> {
        image::old_of(self.size.unwrap_or(image::LENGTH))
    }

    pub(crate) fn new_image(&self) -> Vec<u8> {
        image::new_of(self.size.unwrap_or(image::LENGTH))
    }
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
    /// Makes a driver without interfaces; `configuration` is called once for each case, in a tokio
    /// runtime.
    pub fn new(
        configuration: impl Fn() -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        Self {
            configuration: Box::new(configuration),
            listed: Vec::new(),
            add: Vec::new(),
            configured: None,
            child: None,
            deadline: Duration::from_secs(30),
            settle: Duration::from_secs(10),
            waived: Vec::new(),
            needs: || true,
            options: Options::default(),
        }
    }

    fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Gives the driver children, like `children:` of an exporter file.
    #[must_use]
    pub fn children(
        mut self,
        children: impl Fn() -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        self.configured = Some(Box::new(children));
        self
    }

    /// Sets the time limit of a case; default: 30 seconds.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long released resources may take to disappear; default: 10 seconds.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Skips the cases of a duty that is a SHOULD.
    ///
    /// # Panics
    /// If the duty is a MUST.
    #[must_use]
    pub fn waive(mut self, duty: &'static str, reason: &'static str) -> Self {
        assert!(can_be_waived(duty), "{duty} is a MUST: it cannot be waived");
        self.waived.push((duty, reason));
        self
    }

    /// Skips every case if `needs` returns false, after a [`skip`](crate::skip()) with the reason:
    /// for drivers of programs that are not installed everywhere.
    #[must_use]
    pub fn needs(mut self, needs: fn() -> bool) -> Self {
        self.needs = needs;
        self
    }

    /// Lists a new interface of the driver; `cast` is `|driver| driver`.
    #[must_use]
    pub fn custom<I: Interface + ?Sized>(mut self, cast: fn(Arc<C::Driver>) -> Arc<I>) -> Self {
        self.listed.push(I::DESCRIPTOR);
        self.add.push(Box::new(move |driver, handles| handles.add::<I>(cast(Arc::clone(driver)))));
        self
    }

    /// Calls the method with these arguments: an array without those that are images.
    ///
    /// # Panics
    /// If `arguments` is not an array.
    #[must_use]
    pub fn given(mut self, method: &'static str, arguments: Value) -> Self {
        let Value::Array(arguments) = arguments else { panic!("no array: {arguments}") };
        self.options.given.push((method, arguments));
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

    /// Lists [`Storage`].
    #[must_use]
    pub fn storage(mut self) -> Self
    where
        C::Driver: Storage,
    {
        self.add.push(Box::new(|driver, handles| handles.storage = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Storage>(|driver| driver)
    }

    /// Lists [`StorageMux`].
    #[must_use]
    pub fn storage_mux(mut self) -> Self
    where
        C::Driver: StorageMux,
    {
        self.add.push(Box::new(|driver, handles| {
            handles.storage_mux = Some(Arc::clone(driver) as _);
        }));
        self.custom::<dyn StorageMux>(|driver| driver)
    }

    /// Lists [`Shell`].
    #[must_use]
    pub fn shell(mut self) -> Self
    where
        C::Driver: Shell,
    {
        self.add.push(Box::new(|driver, handles| handles.shell = Some(Arc::clone(driver) as _)));
        self.custom::<dyn Shell>(|driver| driver)
    }

    /// Evaluates the configuration, and that of the children.
    pub(crate) async fn configure(&self) -> (Value, Option<Value>) {
        let configuration = (self.configuration)().await;
        match &self.configured {
            Some(children) => (configuration, Some(children().await)),
            None => (configuration, None),
        }
    }

    /// Opens an instance.
    pub(crate) async fn open(
        &self,
        (configuration, children): (Value, Option<Value>),
        mode: Mode,
    ) -> Result<Instance, String> {
        let medium = self.options.medium.map(|field| {
            let path = configuration[field].as_str().map(PathBuf::from);
            path.ok_or_else(|| format!("the configuration has no path `{field}`"))
        });
        let medium = medium.transpose()?;
        let config: C = serde_json::from_value(configuration)
            .map_err(|error| format!("the configuration: {error}"))?;
        if let Some(problem) = config.check().into_iter().next() {
            return Err(format!("the configuration: {}: {}", problem.field, problem.message));
        }
        let named_children = config.children();
        let configured = match children {
            Some(children) => open_children(children, "subject").await?,
            None => Vec::new(),
        };
        let mut context = OpenContext::at("subject");
        context.children = configured.clone();
        let opened = config.open(context).await;
        let driver = Arc::new(opened.map_err(|error| format!("opening failed: {error:?}"))?);
        let mut handles = Handles::default();
        for add in &self.add {
            add(&driver, &mut handles);
        }
        let driver: Arc<dyn Driver> = driver;
        if let Some((name, add)) = &self.child {
            handles = of_child(&*driver, name, add)?;
        }
        let registered = Registry::linked()
            .find(C::NAME)
            .map(|entry| (entry.interfaces)())
            .map_err(|error| error.report());
        let (options, listed) = (self.options.clone(), self.listed.clone());
        let mut instance =
            Instance::new(mode, driver, handles, options, listed, registered, named_children);
        instance.configured = configured;
        instance.medium = medium;
        instance.settle = self.settle;
        Ok(instance)
    }
}

/// Opens the drivers of a mapping like that of `children:` in an exporter file.
fn open_children(entries: Value, at: &str) -> BoxFuture<'static, Result<Vec<Child>, String>> {
    let at = at.to_owned();
    Box::pin(async move {
        let Value::Object(entries) = entries else { return Err("`children` is no mapping".into()) };
        let mut opened = Vec::new();
        for (name, mut entry) in entries {
            let mut context = OpenContext::at(format!("{at}.{name}"));
            let below = entry["children"].take();
            if !below.is_null() {
                context.children = open_children(below, &context.path).await?;
            }
            let kind = entry["type"].as_str().unwrap_or_default();
            let failed = |error: Error| format!("the child `{name}`: {}", error.report());
            let kind = Registry::linked().find(kind).map_err(failed)?;
            let config = match entry["config"].take() {
                Value::Null => Value::Object(serde_json::Map::new()),
                config => config,
            };
            let driver = (kind.open)(config, context).await.map_err(failed)?;
            opened.push(Child::new(name, driver));
        }
        Ok(opened)
    })
}

/// The interfaces of a child that the driver made.
fn of_child(driver: &dyn Driver, name: &str, add: &[AddOfChild]) -> Result<Handles, String> {
    let children = driver.children();
    let names: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    let child = children.iter().find(|child| child.name == name);
    let child = child.ok_or_else(|| format!("it made no child `{name}`, but {names:?}"))?;
    let device = Device::of_shared_driver(Arc::clone(&child.driver));
    let mut handles = Handles::default();
    for add in add {
        let outcome = add(&device, &mut handles);
        outcome.map_err(|error| format!("the child `{name}`: {}", error.report()))?;
    }
    Ok(handles)
}

/// A driver's child under test: [`conformance!`](crate::conformance) makes one of `child power:
/// [power]`.
#[derive(Debug)]
pub struct ChildFixture<C: DriverConfig>(Fixture<C>);

impl<C: DriverConfig> ChildFixture<C> {
    /// The child of that name, without interfaces.
    pub fn new(mut parent: Fixture<C>, name: &'static str) -> Self {
        parent.child = Some((name, Vec::new()));
        parent.options = Options::default();
        Self(parent)
    }

    fn options_mut(&mut self) -> &mut Options {
        &mut self.0.options
    }

    fn list(mut self, add: AddOfChild) -> Self {
        if let Some((_, listed)) = &mut self.0.child {
            listed.push(add);
        }
        self
    }

    /// Lists [`Power`].
    #[must_use]
    pub fn power(self) -> Self {
        self.list(|child, handles| child.get("").map(|power| handles.power = Some(power)))
    }

    /// Lists [`Network`].
    #[must_use]
    pub fn network(self) -> Self {
        self.list(|child, handles| child.get("").map(|network| handles.network = Some(network)))
    }

    /// Lists [`Serial`].
    #[must_use]
    pub fn serial(self) -> Self {
        self.list(|child, handles| child.get("").map(|serial| handles.serial = Some(serial)))
    }

    /// Lists [`Flasher`].
    #[must_use]
    pub fn flasher(self) -> Self {
        self.list(|child, handles| child.get("").map(|flasher| handles.flasher = Some(flasher)))
    }

    /// Lists [`Storage`].
    #[must_use]
    pub fn storage(self) -> Self {
        self.list(|child, handles| child.get("").map(|storage| handles.storage = Some(storage)))
    }

    /// Lists [`StorageMux`].
    #[must_use]
    pub fn storage_mux(self) -> Self {
        self.list(|child, handles| child.get("").map(|mux| handles.storage_mux = Some(mux)))
    }

    /// Lists [`Shell`].
    #[must_use]
    pub fn shell(self) -> Self {
        self.list(|child, handles| child.get("").map(|shell| handles.shell = Some(shell)))
    }
}

impl<C: DriverConfig> From<ChildFixture<C>> for Fixture<C> {
    fn from(child: ChildFixture<C>) -> Self {
        child.0
    }
}
