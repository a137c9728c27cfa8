//! The registry: the drivers that exporter files can name.
//!
//! [`register_driver!`](crate::register_driver) adds one at link time (crate `inventory`). The
//! linker omits a crate that is listed in `Cargo.toml` but never named in code: name it with `use
//! jumpstarter_driver_x as _;`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::blocking;
use crate::descriptor::InterfaceDescriptor;
use crate::driver::{Driver, DriverConfig, OpenContext, PlannedChild, WantedChild};
use crate::error::{Error, Result, ResultExt};
use crate::problem::ConfigProblem;
use crate::secret;
use crate::suggest;

/// A configuration value that does not fit its type: the place (dotted path under `config`) and the
/// reason.
pub type Misfit = (String, String);

/// A driver of a registry.
#[non_exhaustive]
pub struct DriverEntry {
    /// Its short name.
    pub name: &'static str,
    /// The Python import paths that also name it.
    pub python_names: &'static [&'static str],
    /// Names that are written for fields of its configuration by mistake, as
    /// [`DriverConfig::SYNONYMS`].
    pub synonyms: &'static [(&'static str, &'static str)],
    /// Whether it stands for drivers that the registry lacks, as
    /// [`DriverConfig::HOSTS_OTHERS`].
    pub hosts_others: bool,
    /// Whether it uses no other driver, as [`DriverConfig::IS_INDEPENDENT`].
    pub is_independent: bool,
    /// The crate that defines it.
    pub package: &'static str,
    /// The interfaces that its type implements.
    pub interfaces: fn() -> Vec<&'static InterfaceDescriptor>,
    /// The schema of its configuration.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Checks a configuration without opening anything.
    pub check: fn(Value) -> std::result::Result<Vec<ConfigProblem>, Misfit>,
    /// What does not work on this machine now although the configuration is right, as
    /// [`DriverConfig::warnings`]. It may block.
    pub warnings: fn(Value) -> Vec<ConfigProblem>,
    /// The children that it makes, as [`DriverConfig::children`]; `None` for a wrong configuration,
    /// too.
    pub children: fn(Value) -> Option<Vec<PlannedChild>>,
    /// The children that it uses, as [`DriverConfig::wanted_children`]; empty for a wrong
    /// configuration.
    pub wanted_children: fn(Value) -> Vec<WantedChild>,
    /// Opens the driver.
    pub open: OpenDriver,
}

impl fmt::Debug for DriverEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriverEntry({} of {})", self.name, self.package)
    }
}

/// Opens a driver from its configuration.
pub type OpenDriver = fn(Value, OpenContext) -> BoxFuture<'static, Result<Arc<dyn Driver>>>;

inventory::collect!(DriverEntry);

impl DriverEntry {
    /// Its short name and its Python import paths.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        std::iter::once(self.name).chain(self.python_names.iter().copied())
    }

    /// Its name in logs: its Python import path if it has one, else its short name.
    pub fn type_name(&self) -> &'static str {
        self.python_names.first().copied().unwrap_or(self.name)
    }

    /// The driver that `C` configures. `package` is the crate that defines it.
    pub const fn of<C: DriverConfig>(package: &'static str) -> Self {
        Self {
            name: C::NAME,
            python_names: C::PYTHON_NAMES,
            synonyms: C::SYNONYMS,
            hosts_others: C::HOSTS_OTHERS,
            is_independent: C::IS_INDEPENDENT,
            package,
            interfaces: C::Driver::declared_interfaces,
            schema: |generator| C::json_schema(generator),
            check: |value| read::<C>(value).map(|config| config.check()),
            warnings: |value| read::<C>(value).map(|config| config.warnings()).unwrap_or_default(),
            children: |value| read::<C>(value).ok().and_then(|config| config.children()),
            wanted_children: |value| {
                read::<C>(value).map(|config| config.wanted_children()).unwrap_or_default()
            },
            open: |value, context| {
                Box::pin(async move {
                    let path = context.path.clone();
                    let opening = || format!("opening `{path}` (driver {})", C::NAME);
                    let read = blocking(|| secret::resolving(|| read::<C>(value)));
                    let config = read.await.with_context(opening)?.map_err(|(at, why)| {
                        Error::invalid_argument(format!(
                            "configuration of driver `{}`: {at}: {why}",
                            C::NAME
                        ))
                    })?;
                    if let Some(problem) = config.check().into_iter().next() {
                        let message = format!("{}: {}", problem.field, problem.message);
                        return Err(Error::invalid_argument(message));
                    }
                    config.open(context).await.and_then(as_declared).with_context(opening)
                })
            },
        }
    }
}

fn read<C: DriverConfig>(value: Value) -> std::result::Result<C, Misfit> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// Checks that the driver offers what its type declares.
fn as_declared<D: Driver>(driver: D) -> Result<Arc<dyn Driver>> {
    let names = |interface: &'static InterfaceDescriptor| interface.name;
    let declared: Vec<&str> = D::declared_interfaces().into_iter().map(names).collect();
    let offered: Vec<&str> = driver.interfaces().descriptors().map(names).collect();
    if declared == offered {
        return Ok(Arc::new(driver));
    }
    let [declared, offered] = [declared, offered].map(suggest::list);
    Err(Error::internal(format!("it offers the interfaces {offered} and declares {declared}"))
        .with_hint("write `interfaces!(…);` in `impl Driver`, which writes both"))
}

/// The drivers that exporter files can name.
///
/// ```
/// use jumpstarter_driver_core::{CompositeConfig, Registry};
///
/// let registry = Registry::new().with::<CompositeConfig>();
/// assert_eq!(registry.find("composite")?.name, "composite");
/// assert!(registry.find("qemu").is_err());
/// # Ok::<(), jumpstarter_driver_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Those that files name, sorted by name.
    drivers: Vec<&'static DriverEntry>,
    /// What stands for drivers that the registry lacks.
    host: Option<&'static DriverEntry>,
    /// The error if names are not unique.
    conflict: Option<String>,
}

impl Registry {
    /// A registry without drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The drivers that are linked into this program and registered with
    /// [`register_driver!`](crate::register_driver).
    pub fn linked() -> &'static Self {
        static LINKED: OnceLock<Registry> = OnceLock::new();
        LINKED.get_or_init(|| inventory::iter::<DriverEntry>().collect())
    }

    /// Adds the driver that `C` configures.
    #[must_use]
    pub fn with<C: DriverConfig>(self) -> Self {
        /// Makes the entry a constant, which lives for ever.
        struct Entry<C>(PhantomData<C>);
        impl<C: DriverConfig> Entry<C> {
            const ENTRY: DriverEntry = DriverEntry::of::<C>("this program");
        }
        self.drivers.into_iter().chain(self.host).chain([&Entry::<C>::ENTRY]).collect()
    }

    /// The driver that stands for those that the registry lacks
    /// ([`DriverConfig::HOSTS_OTHERS`]). No file names it.
    pub fn host(&self) -> Option<&'static DriverEntry> {
        self.host
    }

    /// The drivers that files can name, sorted by name.
    ///
    /// # Errors
    /// `AlreadyExists` if two drivers share a name; the error names both.
    pub fn drivers(&self) -> Result<&[&'static DriverEntry]> {
        match &self.conflict {
            Some(conflict) => Err(Error::already_exists(conflict.clone())),
            None => Ok(&self.drivers),
        }
    }

    /// The driver of that short name or Python import path.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name or the list of all; the errors of [`Registry::drivers`].
    pub fn find(&self, name: &str) -> Result<&'static DriverEntry> {
        let all = self.drivers()?;
        let found = all.iter().find(|entry| entry.names().any(|other| other == name));
        found.copied().ok_or_else(|| {
            let near = suggest::nearest(name, all.iter().flat_map(|entry| entry.names()));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "the drivers here are {}",
                    suggest::list(all.iter().map(|entry| entry.name))
                ),
            };
            Error::not_found(format!("there is no driver `{name}`")).with_hint(hint)
        })
    }
}

impl FromIterator<&'static DriverEntry> for Registry {
    fn from_iter<T: IntoIterator<Item = &'static DriverEntry>>(entries: T) -> Self {
        let mut drivers: Vec<&'static DriverEntry> = entries.into_iter().collect();
        drivers.sort_by_key(|entry| (entry.name, entry.package));
        let mut names: Vec<(&str, &DriverEntry)> =
            drivers.iter().flat_map(|entry| entry.names().map(|name| (name, *entry))).collect();
        names.sort_by_key(|(name, _)| *name);
        let conflict = names.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| {
            format!(
                "two drivers are named `{}`: one of {}, one of {}",
                pair[0].0, pair[0].1.package, pair[1].1.package
            )
        });
        let host = drivers.iter().copied().find(|entry| entry.hosts_others);
        drivers.retain(|entry| !entry.hosts_others);
        Self { drivers, host, conflict }
    }
}

/// Adds a driver, named by its configuration, to [the registry of linked
/// drivers](Registry::linked).
#[macro_export]
macro_rules! register_driver {
    ($config:ty $(,)?) => {
        $crate::__private::inventory::submit! {
            $crate::__private::DriverEntry::of::<$config>(env!("CARGO_PKG_NAME"))
        }
    };
}

/// Lists a driver's interfaces, once: stands in its `impl Driver` for the methods
/// [`Driver::interfaces`] and [`Driver::declared_interfaces`].
///
/// ```
/// use jumpstarter_driver_core::prelude::*;
///
/// struct Lamp;
///
/// impl Driver for Lamp {
///     interfaces!(Power);
/// }
/// # #[async_trait]
/// # impl Power for Lamp {
/// #     async fn on(&self) -> Result<()> { Ok(()) }
/// #     async fn off(&self) -> Result<()> { Ok(()) }
/// # }
/// assert_eq!(Lamp::declared_interfaces()[0].name, "power");
/// ```
#[macro_export]
macro_rules! interfaces {
    ($($interface:path),* $(,)?) => {
        fn interfaces(&self) -> $crate::Interfaces<'_> {
            $crate::Interfaces::new()$(.with::<dyn $interface>(self))*
        }

        fn declared_interfaces() -> ::std::vec::Vec<&'static $crate::InterfaceDescriptor> {
            ::std::vec![$(<dyn $interface as $crate::Interface>::DESCRIPTOR),*]
        }
    };
}
