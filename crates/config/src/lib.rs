//! Exporter files, the YAML that says which drivers make up a device, and client files.
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
//! [`ClientConfig`] is a client file, which names a controller and has the client's token.
//!
//! All faults of a file are reported at once ([`ConfigFaults`]), each with its place. The text
//! becomes a tree with places, each part is checked against its JSON schema, the parts that pass
//! are deserialised, and the drivers check the rest
//! ([`ConfigProblem`](jumpstarter_driver_core::ConfigProblem)).

mod check;
mod client;
mod client_files;
mod client_lock;
mod client_variables;
mod devices;
mod document;
mod entries;
mod fault;
mod fields;
mod file;
mod folders;
mod hooks;
mod hosted;
mod hosting;
mod paths;
mod scalar;
mod schema;
mod secrets;
mod settings;
mod token_claims;
mod value;
mod wanted;
mod words;
mod write;
mod yaml;

pub use client::{ClientConfig, ClientDrivers, ClientLeases, ClientShell};
pub use client_lock::ClientLock;
pub use document::read_yaml;
pub use fault::{ConfigFaults, ConfigWarnings, Fault, Place};
pub use fields::{ConfigField, fields};
pub use file::{ExporterConfig, Reader};
pub use folders::{files_with_alias, make_private, user_folder};
pub use hosted::HostedEntry;
pub use schema::{of_driver, schema};
pub use settings::{
    ApiVersion, FailureDetection, GrpcOption, Hook, Hooks, Kind, Metadata, OnFailure, Settings, Tls,
};
pub use token_claims::TokenClaims;
pub use write::to_yaml;
