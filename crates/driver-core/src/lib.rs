//! The driver model of Jumpstarter.
//!
//! A *device* is a tree of [`Driver`]s. A driver offers interfaces: [`Power`], [`Network`],
//! [`Serial`], [`Flasher`], or new ones made with [`macro@interface`]. A [`Registry`] knows
//! drivers, and [plans](Planned) say which of them make up a device. A [`Device`] is the handle to
//! the tree: typed with [`Device::get`], untyped with [`Device::call`]. Exporter files, from which
//! plans are read, are in the crate `jumpstarter-config`.
//!
//! ```
//! use jumpstarter_driver_core::prelude::*;
//!
//! /// A switch that remembers its position.
//! struct Switch(std::sync::atomic::AtomicBool);
//!
//! impl Driver for Switch {
//!     interfaces!(Power);
//! }
//!
//! #[async_trait]
//! impl Power for Switch {
//!     async fn on(&self) -> Result<()> {
//!         self.0.store(true, std::sync::atomic::Ordering::SeqCst);
//!         Ok(())
//!     }
//!     async fn off(&self) -> Result<()> {
//!         self.0.store(false, std::sync::atomic::Ordering::SeqCst);
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let device = Device::of_driver(Switch(false.into()));
//! device.get::<dyn Power>("")?.on().await?;
//! device.call("", "off", vec![]).await?;
//! # device.close().await }
//! ```
//!
//! # One dependency
//!
//! A driver's crate needs no other dependency: `#[async_trait]`, [`#[config]`](macro@config) for
//! its configuration and [`#[data]`](macro@data) for arguments and results come from here.
//! Handwritten derives must name the paths of serde and schemars:
//!
//! ```
//! use jumpstarter_driver_core::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(crate = "jumpstarter_driver_core::serde")]
//! #[schemars(crate = "jumpstarter_driver_core::schemars")]
//! struct Limits {
//!     volts: f64,
//! }
//! ```
//!
//! A crate that uses this one through a re-export names that crate in each attribute:
//! `#[interface(name = "relay", client = "…", crate = jumpstarter)]`, `#[config(crate =
//! jumpstarter)]`.
#![doc = ""]

extern crate self as jumpstarter_driver_core;

mod ambiguity;
mod arguments;
mod at_close;
mod backend;
mod blocking;
#[doc(hidden)]
pub mod bounds;
mod builtin;
mod call;
pub mod channel;
mod closing;
mod connect;
mod descriptor;
mod device;
mod driver;
mod error;
mod families;
mod file_storage;
mod finite;
mod flashing;
mod gauge;
mod generic;
mod host_path;
pub mod image;
mod interface;
mod mount;
mod node;
mod outline;
mod path;
mod plan;
mod problem;
mod program;
mod proxies;
#[doc(hidden)]
pub mod references;
mod registry;
mod secret;
mod shell;
pub mod storage;
pub mod suggest;
mod tcp;
mod timestamp;
mod tree;
mod units;
mod value_type;

pub use arguments::{Argument, Arguments, Rest, whole_numbers};
pub use async_trait::async_trait;
pub use at_close::AtClose;
pub use backend::Backend;
pub use blocking::blocking;
pub use builtin::{COMPOSITE_CLIENT, Composite, CompositeConfig};
pub use call::{Caller, Reply, Resource, ValueStream};
pub use channel::{Channel, ChannelReader, ChannelWriter, Framing};
pub use connect::{NotConnected, connect_first};
pub use descriptor::{
    InterfaceDescriptor, MethodDescriptor, MethodKind, ParameterDescriptor, ParameterKind,
};
pub use device::Device;
pub use driver::{Child, Driver, DriverConfig, OpenContext, PlannedChild, WantedChild};
pub use error::{Error, ErrorKind, Result, ResultExt};
pub use file_storage::{
    FileMode, HashAlgorithm, PresignedRequest, Storage, StorageCapability, StoredKind,
    StoredMetadata,
};
pub use flashing::{FlashTarget, FlashTargets, check_images, flash_images};
pub use gauge::Gauge;
pub use generic::{
    Flasher, Network, Power, PowerReading, Serial, SerialFlowControl, SerialParity, SerialSettings,
    StorageMux,
};
pub use host_path::HostPath;
pub use image::{ImageSink, ImageSource, Progress};
pub use interface::{Interface, Interfaces};
#[doc(hidden)]
pub use inventory;
pub use jumpstarter_driver_core_macros::{config, data, interface};
pub use mount::Mount;
pub use node::{Node, PROTOCOL_LABEL};
pub use plan::Planned;
pub use problem::ConfigProblem;
pub use program::Program;
pub use registry::{DriverEntry, Misfit, OpenDriver, Registry};
pub use secret::Secret;
pub use shell::{Shell, ShellOutput};
pub use tcp::keep_alive;
pub use timestamp::{date_of_day, day_of_date, http_date, parse_http_date, rfc3339};
pub use units::{ByteSize, Span, deadline_after};
pub use value_type::{CallValue, JsonType, ValueType};
pub use {schemars, serde, serde_json};

/// The names that a driver's file needs: `use jumpstarter_driver_core::prelude::*;`.
pub mod prelude {
    pub use crate::{
        AtClose, ByteSize, Channel, ChannelReader, ChannelWriter, Child, ConfigProblem, Device,
        Driver, DriverConfig, Error, ErrorKind, FlashTarget, FlashTargets, Flasher, Framing, Gauge,
        HostPath, ImageSink, ImageSource, Interface, Interfaces, Network, OpenContext,
        PlannedChild, Power, PowerReading, Program, Progress, Rest, Result, ResultExt, Secret,
        Serial, Shell, ShellOutput, Span, Storage, StorageMux, ValueStream, WantedChild,
        async_trait, blocking, config, data, interface, interfaces, register_driver, suggest,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// The names that the macros' expansions use. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::arguments::{Argument, Arguments};
    pub use crate::call::{Caller, Reply};
    pub use crate::descriptor::{
        InterfaceDescriptor, LinkedInterface, MethodDescriptor, MethodKind, ParameterDescriptor,
        ParameterKind, unknown_method,
    };
    pub use crate::error::Result;
    pub use crate::interface::Interface;
    pub use crate::interface::sealed::Sealed;
    pub use crate::registry::DriverEntry;
    pub use crate::value_type::ValueType;
    pub use async_trait::async_trait;
    pub use futures_util::future::BoxFuture;
    pub use inventory;
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
