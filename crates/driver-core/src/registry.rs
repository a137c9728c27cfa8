//! The drivers that are linked into this program.
//!
//! [`register_driver!`](crate::register_driver) adds one at link time (crate `inventory`). A crate
//! that is listed in `Cargo.toml` but never named in code is left out by the linker: name it with
//! `use jumpstarter_driver_x as _;`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::blocking;
use crate::descriptor::InterfaceDescriptor;
use crate::driver::{Driver, DriverConfig, OpenContext, PlannedChild, WantedChild};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::interface::Interface;
use crate::interfaces::{Flasher, Network, Power, Serial};
use crate::problem::ConfigProblem;
use crate::secret;
use crate::suggest;

/// A configuration value that does not fit its type: where (dotted path under `config`) and why.
pub type Misfit = (String, String);

/// A linked driver.
pub struct DriverEntry {
    /// Its short name.
    pub name: &'static str,
    /// The Python import paths that it answers to as well.
    pub python_names: &'static [&'static str],
    /// Names that are written for fields of its configuration by mistake, as
    /// [`DriverConfig::SYNONYMS`].
    pub synonyms: &'static [(&'static str, &'static str)],
    /// The crate that defines it.
    pub package: &'static str,
    /// The interfaces that its type implements.
    pub interfaces: fn() -> Vec<&'static InterfaceDescriptor>,
    /// The schema of its configuration.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Checks a configuration without opening anything.
    pub check: fn(Value) -> std::result::Result<Vec<ConfigProblem>, Misfit>,
    /// What of a configuration that is right does not work on this machine as it is now, as
    /// [`DriverConfig::warnings`]. It may block.
    pub warnings: fn(Value) -> Vec<ConfigProblem>,
    /// The children that it makes itself with a configuration, as
    /// [`DriverConfig::children`] tells; none for a configuration that is wrong.
    pub children: fn(Value) -> Option<Vec<PlannedChild>>,
    /// The children that it uses with a configuration, as [`DriverConfig::wanted_children`] tells;
    /// none for a configuration that is wrong.
    pub wanted_children: fn(Value) -> Vec<WantedChild>,
    /// Opens it.
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
    /// What it is called in logs: its Python import path, where it has one, else its short name.
    pub fn type_name(&self) -> &'static str {
        self.python_names.first().copied().unwrap_or(self.name)
    }

    /// For [`register_driver!`](crate::register_driver).
    #[doc(hidden)]
    pub const fn of<C: DriverConfig>(
        package: &'static str,
        interfaces: fn() -> Vec<&'static InterfaceDescriptor>,
    ) -> Self {
        Self {
            name: C::NAME,
            python_names: C::PYTHON_NAMES,
            synonyms: C::SYNONYMS,
            package,
            interfaces,
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
                    let opened = config.open(context).await.with_context(opening)?;
                    Ok(Arc::new(opened) as Arc<dyn Driver>)
                })
            },
        }
    }
}

fn read<C: DriverConfig>(value: Value) -> std::result::Result<C, Misfit> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// Every linked driver, sorted by name.
///
/// # Errors
/// `AlreadyExists` when two drivers share a name; it names both.
pub fn drivers() -> Result<&'static [&'static DriverEntry]> {
    static SORTED: OnceLock<std::result::Result<Vec<&'static DriverEntry>, String>> =
        OnceLock::new();
    let sorted = SORTED.get_or_init(|| {
        let mut all: Vec<&'static DriverEntry> = inventory::iter::<DriverEntry>().collect();
        all.sort_by_key(|entry| (entry.name, entry.package));
        let mut names: Vec<(&str, &DriverEntry)> = all
            .iter()
            .flat_map(|entry| {
                entry.python_names.iter().chain([&entry.name]).map(|name| (*name, *entry))
            })
            .collect();
        names.sort_by_key(|(name, _)| *name);
        match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!(
                "two drivers are named `{}`: one of {}, one of {}",
                pair[0].0, pair[0].1.package, pair[1].1.package
            )),
            None => Ok(all),
        }
    });
    sorted.as_deref().map_err(|message| Error::new(ErrorKind::AlreadyExists, message.clone()))
}

/// The driver of that short name or Python import path.
///
/// # Errors
/// `NotFound`, with the nearest name or the list of all.
pub fn find(name: &str) -> Result<&'static DriverEntry> {
    let all = drivers()?;
    let found = all.iter().find(|entry| entry.name == name || entry.python_names.contains(&name));
    found.copied().ok_or_else(|| {
        let names =
            all.iter().flat_map(|entry| std::iter::once(&entry.name).chain(entry.python_names));
        let near = suggest::nearest(name, names.copied());
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

/// Adds a driver, named by its configuration, to the registry. Interfaces of driver-core that the
/// driver's type implements are found by themselves; list others: `register_driver!(QemuConfig,
/// interfaces: [Machine]);`.
#[macro_export]
macro_rules! register_driver {
    ($config:ty $(, interfaces: [$($interface:path),* $(,)?])? $(,)?) => {
        $crate::__private::inventory::submit! {
            $crate::__private::DriverEntry::of::<$config>(env!("CARGO_PKG_NAME"), || {
                #[allow(unused_imports, reason = "not needed where the type has every interface")]
                use $crate::__private::ProbeFallback as _;
                type Probe = $crate::__private::InterfaceProbe<<$config as $crate::DriverConfig>::Driver>;
                // `Probe::POWER` is the inherent constant where the driver implements Power, else the fallback's.
                #[allow(unused_mut, reason = "only a driver with interfaces of its own pushes")]
                let mut found: ::std::vec::Vec<&'static $crate::InterfaceDescriptor> = ::std::vec::Vec::new();
                $($(found.push(<dyn $interface as $crate::__private::Interface>::DESCRIPTOR);)*)?
                found.extend([Probe::POWER, Probe::NETWORK, Probe::SERIAL, Probe::FLASHER].into_iter().flatten());
                found
            })
        }
    };
}

/// Tells which interfaces a type implements, at compile time.
#[doc(hidden)]
#[derive(Debug)]
pub struct InterfaceProbe<T>(PhantomData<T>);

type Found = Option<&'static InterfaceDescriptor>;

/// What [`InterfaceProbe`] says of an interface that the type lacks.
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the API")]
pub trait ProbeFallback {
    const POWER: Found = None;
    const NETWORK: Found = None;
    const SERIAL: Found = None;
    const FLASHER: Found = None;
}

impl<T> ProbeFallback for InterfaceProbe<T> {}

macro_rules! probe {
    ($($constant:ident: $interface:ident),*) => {$(
        #[allow(missing_docs, reason = "not part of the API")]
        impl<T: $interface> InterfaceProbe<T> {
            pub const $constant: Found = Some(<dyn $interface as Interface>::DESCRIPTOR);
        }
    )*};
}
probe!(POWER: Power, NETWORK: Network, SERIAL: Serial, FLASHER: Flasher);
