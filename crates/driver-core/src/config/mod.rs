//! Exporter files: the YAML that says which drivers make up a device.
//!
//! ```yaml
//! apiVersion: jumpstarter.dev/v1alpha1
//! kind: ExporterConfig
//! metadata: {namespace: default, name: demo}
//! export:
//!   qemu:                                # a driver, by its short name or its Python import path
//!     type: jumpstarter_driver_qemu.driver.Qemu
//!     config: {mem: 1G}
//!   power: {ref: qemu.power}             # a proxy: another name for a driver of the tree
//!   rack: {children: {a: {type: …}}}     # a group
//! ```
//!
//! Everything that is wrong with a file is reported at once ([`ConfigFaults`]), each fault with its
//! place: the text becomes a tree that knows its places, each part is checked against its JSON
//! schema, what passes is deserialised, and the drivers check what remains ([`ConfigProblem`]).

mod check;
mod entries;
mod fault;
mod fields;
mod file;
mod hooks;
mod paths;
mod refs;
mod scalar;
mod schema;
mod settings;
mod words;
mod yaml;

use serde_json::Value;

use crate::registry::DriverEntry;

pub use fault::{ConfigFaults, ConfigProblem, ConfigWarnings, Fault, Place};
pub use fields::{ConfigField, fields};
pub use file::ExporterConfig;
pub use schema::{of_driver, schema};
pub use settings::{
    ApiVersion, FailureDetection, GrpcOption, Hook, Hooks, Kind, Metadata, OnFailure, Settings, Tls,
};

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
