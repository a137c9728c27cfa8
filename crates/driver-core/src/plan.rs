//! Plans: the entries of a device, before anything is opened.

use std::fmt;

use serde_json::Value;

use crate::driver::PlannedChild;
use crate::registry::DriverEntry;

/// One entry of a plan: a driver, a group of drivers, or another name for a driver.
///
/// ```
/// use jumpstarter_driver_core::{Device, Planned, Registry};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jumpstarter_driver_core::Result<()> {
/// let composite = Registry::linked().find("composite")?;
/// let rack = Planned::group("rack").with_child(Planned::driver("a", composite, json!({})));
/// let device = Device::open(&[rack, Planned::reference("b", "rack.a")]).await?;
/// assert_eq!(device.node("b")?.id(), device.node("rack.a")?.id());
/// # device.close().await }
/// ```
#[derive(Clone)]
pub struct Planned {
    name: String,
    kind: Kind,
    description: Option<String>,
    methods_description: Vec<(String, String)>,
    log_level: Option<String>,
    hosted: Option<String>,
    children: Vec<Planned>,
}

#[derive(Clone)]
enum Kind {
    Driver(&'static DriverEntry, Value),
    Group,
    Reference(String),
}

impl Planned {
    /// A driver and its configuration.
    pub fn driver(name: impl Into<String>, entry: &'static DriverEntry, config: Value) -> Self {
        Self::new(name, Kind::Driver(entry, config))
    }

    /// A group of drivers.
    pub fn group(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Group)
    }

    /// Another name for the driver at `target`, its dotted path from the root.
    pub fn reference(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(name, Kind::Reference(target.into()))
    }

    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            description: None,
            methods_description: Vec::new(),
            log_level: None,
            hosted: None,
            children: Vec::new(),
        }
    }

    /// Adds a description for people.
    #[must_use]
    pub fn with_description(mut self, description: Option<String>) -> Self {
        self.description = description;
        self
    }

    /// Adds help for its methods, by name.
    #[must_use]
    pub fn with_methods_description(mut self, methods: Vec<(String, String)>) -> Self {
        self.methods_description = methods;
        self
    }

    /// Adds its log level, by Python's names.
    #[must_use]
    pub fn with_log_level(mut self, level: Option<String>) -> Self {
        self.log_level = level;
        self
    }

    /// Sets the import path of a driver that this program lacks and another driver
    /// [hosts](crate::DriverConfig::HOSTS_OTHERS).
    #[must_use]
    pub fn with_hosted(mut self, import_path: Option<String>) -> Self {
        self.hosted = import_path;
        self
    }

    /// Adds an entry under it.
    #[must_use]
    pub fn with_child(mut self, child: Planned) -> Self {
        self.children.push(child);
        self
    }

    /// Adds entries under it.
    #[must_use]
    pub fn with_children(mut self, children: Vec<Planned>) -> Self {
        self.children.extend(children);
        self
    }

    /// Its key under its parent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver to open; `None` for a group or a reference.
    pub fn entry(&self) -> Option<&'static DriverEntry> {
        match self.kind {
            Kind::Driver(entry, _) => Some(entry),
            Kind::Group | Kind::Reference(_) => None,
        }
    }

    /// The import path of the driver that its driver hosts; none for a driver of this program.
    pub fn hosted(&self) -> Option<&str> {
        self.hosted.as_deref()
    }

    /// The driver's checked configuration, which may hold secrets. Null for a group or a reference.
    pub fn config(&self) -> &Value {
        match &self.kind {
            Kind::Driver(_, config) => config,
            Kind::Group | Kind::Reference(_) => &Value::Null,
        }
    }

    /// For a reference, the dotted path of its target from the root.
    pub fn target(&self) -> Option<&str> {
        match &self.kind {
            Kind::Reference(target) => Some(target),
            Kind::Driver(..) | Kind::Group => None,
        }
    }

    /// What the entry is, for people.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Help for its methods, by name.
    pub fn methods_description(&self) -> &[(String, String)] {
        &self.methods_description
    }

    /// Its log level, by Python's names, if the plan sets one.
    pub fn log_level(&self) -> Option<&str> {
        self.log_level.as_deref()
    }

    /// The entries under it, in order.
    pub fn children(&self) -> &[Planned] {
        &self.children
    }

    /// The children that its driver will make; `None` if they are known only after opening.
    pub fn own_children(&self) -> Option<Vec<PlannedChild>> {
        match &self.kind {
            Kind::Driver(entry, config) => (entry.children)(config.clone()),
            Kind::Group | Kind::Reference(_) => Some(Vec::new()),
        }
    }
}

impl fmt::Debug for Planned {
    /// Prints no configuration, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Driver(entry, _) => entry.name,
            Kind::Group => "a group",
            Kind::Reference(target) => target,
        };
        let mut debug = f.debug_struct("Planned");
        debug.field("name", &self.name).field("kind", &kind).field("children", &self.children);
        debug.finish_non_exhaustive()
    }
}
