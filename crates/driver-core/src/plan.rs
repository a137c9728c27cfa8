//! What makes up a device, before anything is opened: as an exporter file says it.

use serde_json::Value;

use crate::registry::DriverEntry;

/// An entry of `export:` or of `children:`.
#[derive(Clone)]
pub enum Node {
    /// A driver.
    Driver {
        /// The driver that `type` names.
        entry: &'static DriverEntry,
        /// What it is, for people.
        description: Option<String>,
        /// Help for its methods, by name.
        methods_description: Vec<(String, String)>,
        /// Its configuration, checked; it may hold secrets.
        config: Value,
        /// What it logs, by Python's names, where the file says so.
        log_level: Option<String>,
        /// The drivers under it that the file names, in order.
        children: Vec<(String, Node)>,
    },
    /// A group of drivers.
    Composite {
        /// What it is, for people.
        description: Option<String>,
        /// Its drivers, in order.
        children: Vec<(String, Node)>,
    },
    /// Another name for a driver of the tree.
    Proxy {
        /// The dotted path of that driver, from the root.
        target: String,
        /// What it is, for people.
        description: Option<String>,
    },
}

impl std::fmt::Debug for Node {
    /// Without the configuration, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Driver { entry, children, .. } => f
                .debug_struct("Driver")
                .field("type", &entry.name)
                .field("children", children)
                .finish_non_exhaustive(),
            Self::Composite { children, .. } => {
                f.debug_struct("Composite").field("children", children).finish()
            }
            Self::Proxy { target, .. } => write!(f, "Proxy({target})"),
        }
    }
}
