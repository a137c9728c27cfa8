//! Interfaces are defined once: [`macro@crate::interface`] makes, from one trait, the trait itself,
//! the table of its methods, the adapter that serves it and the proxy that calls it from afar.
//!
//! The kind of a method is told from its return type: `Result<Channel>` opens a byte channel,
//! `Result<ValueStream<T>>` yields a stream, any other `Result<T>` answers once. Arguments are
//! owned; one of type [`ImageSource`](crate::ImageSource) or [`ImageSink`](crate::ImageSink)
//! travels as a resource, any other as JSON. Trailing `Option`s may be left out.
//!
//! On the wire a call names the driver and the method, not the interface. Two interfaces of one
//! driver must not have a method of the same name: opening such a driver from an exporter file
//! fails with `AlreadyExists`, and a call of that method by name with `Unimplemented`. In the same
//! process `device.get::<dyn Meter>(path)?.off()` always calls the `off` of `Meter`.
//!
//! ```
//! use jumpstarter_driver_core::prelude::*;
//!
//! /// A relay that counts.
//! #[interface(name = "relay", client = "acme.client.RelayClient")]
//! pub trait Relay {
//!     /// Clicks `times` times and returns the clicks so far.
//!     async fn click(&self, times: u32) -> Result<u32>;
//! }
//!
//! struct Board;
//! #[async_trait]
//! impl Relay for Board {
//!     async fn click(&self, times: u32) -> Result<u32> {
//!         Ok(times)
//!     }
//! }
//! impl Driver for Board {
//!     fn interfaces(&self) -> Interfaces<'_> {
//!         Interfaces::new().with::<dyn Relay>(self)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let device = Device::of_driver(Board);
//! assert_eq!(device.get::<dyn Relay>("")?.click(3).await?, 3);
//! # Ok(()) }
//! ```

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ambiguity::Ambiguity;
use crate::arguments::Arguments;
use crate::channel::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::finite;
use crate::interfaces::{Flasher, Network, Power, Serial};
use crate::suggest;
use crate::value_type::ValueType;

/// What a streaming method yields. Dropping it ends the stream.
pub type ValueStream<T> = BoxStream<'static, Result<T>>;

/// How a method answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MethodKind {
    /// Once.
    Unary,
    /// With a stream of values.
    Stream,
    /// With a byte channel.
    Channel,
}

/// How an argument travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ParameterKind {
    /// As a JSON-like value.
    Value,
    /// As an image that the driver reads.
    Source,
    /// As an image that the driver writes.
    Sink,
}

/// A parameter of a method.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ParameterDescriptor {
    /// Its name.
    pub name: &'static str,
    /// Its Rust type, for people.
    #[serde(rename = "type")]
    pub type_name: &'static str,
    /// How it travels.
    pub kind: ParameterKind,
    /// Whether it may be left out.
    pub optional: bool,
    /// The type of its value, where one is given; none for an image.
    pub value: Option<ValueType>,
}

/// A method of an interface.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MethodDescriptor {
    /// Its name, also on the wire.
    pub name: &'static str,
    /// Its doc comment.
    pub documentation: &'static str,
    /// How it answers.
    pub kind: MethodKind,
    /// The Rust type of what it yields, for people.
    pub returns: &'static str,
    /// Its parameters in order.
    pub parameters: &'static [ParameterDescriptor],
    /// The type of what it yields; none for a channel.
    pub result: Option<ValueType>,
}

impl MethodDescriptor {
    /// `flash(source, target?)`: for help and errors.
    pub fn signature(&self) -> String {
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| {
                format!("{}{}", parameter.name, if parameter.optional { "?" } else { "" })
            })
            .collect();
        format!("{}({})", self.name, parameters.join(", "))
    }
}

/// An interface: its names and its method table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct InterfaceDescriptor {
    /// Its short name, such as `power`.
    pub name: &'static str,
    /// The import path of the Python client class that drives it.
    pub client: &'static str,
    /// Further Python client classes whose drivers have all its methods.
    #[serde(skip)]
    pub further_clients: &'static [&'static str],
    /// Whether exporters in Python never have it, whatever client class they name.
    #[serde(skip)]
    pub native: bool,
    /// Its doc comment.
    pub documentation: &'static str,
    /// Its methods in the order of their definition.
    pub methods: &'static [MethodDescriptor],
}

impl InterfaceDescriptor {
    /// The method of that name.
    pub fn method(&self, name: &str) -> Option<&'static MethodDescriptor> {
        self.methods.iter().find(|method| method.name == name)
    }
}

/// An interface that is linked into this program; made by [`macro@crate::interface`].
#[doc(hidden)]
#[derive(Debug)]
pub struct LinkedInterface(pub &'static InterfaceDescriptor);

inventory::collect!(LinkedInterface);

/// Every interface that is linked into this program, sorted by name.
pub fn linked() -> Vec<&'static InterfaceDescriptor> {
    let mut all: Vec<_> = inventory::iter::<LinkedInterface>().map(|linked| linked.0).collect();
    all.sort_by_key(|interface| (interface.name, interface.client));
    all
}

/// The linked interfaces that a driver of an exporter in Python has, told from the import path of
/// its client class.
pub fn of_client(client: &str) -> Vec<&'static InterfaceDescriptor> {
    let drives = |interface: &&InterfaceDescriptor| {
        !interface.native
            && (interface.client == client || interface.further_clients.contains(&client))
    };
    linked().into_iter().filter(drives).collect()
}

/// What a call answers.
#[non_exhaustive]
pub enum Reply {
    /// One value; null for "no result".
    Value(Value),
    /// A stream of values.
    Stream(ValueStream<Value>),
    /// A byte channel.
    Channel(Channel),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Channel(_) => f.write_str("Channel"),
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Value> {
    finite::to_json(value)
        .map_err(|error| Error::internal("the result cannot be sent").with_source(error))
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::internal("the answer is not of the expected form").with_source(error)
    })
}

impl Reply {
    /// Encodes a value.
    ///
    /// # Errors
    /// `Internal` when it has no JSON form (NaN, infinities, keys that are not text).
    pub fn value(value: impl Serialize) -> Result<Self> {
        encode(&value).map(Self::Value)
    }

    /// Encodes a stream, item by item; one that has no JSON form is an error in the stream.
    pub fn stream<T: Serialize + Send + 'static>(stream: ValueStream<T>) -> Self {
        Self::Stream(stream.map(|item| item.and_then(|item| encode(&item))).boxed())
    }

    /// Decodes a value.
    ///
    /// # Errors
    /// `Internal` when the answer is of another kind or form.
    pub fn into_value<T: DeserializeOwned>(self) -> Result<T> {
        match self {
            Self::Value(value) => decode(value),
            other => Err(other.unexpected("a value")),
        }
    }

    /// Decodes a stream.
    ///
    /// # Errors
    /// `Internal` when the answer is of another kind; an item of another form is an error in the
    /// stream.
    pub fn into_stream<T: DeserializeOwned + 'static>(self) -> Result<ValueStream<T>> {
        match self {
            Self::Stream(stream) => Ok(stream.map(|item| item.and_then(decode)).boxed()),
            other => Err(other.unexpected("a stream")),
        }
    }

    /// The channel.
    ///
    /// # Errors
    /// `Internal` when the answer is of another kind.
    pub fn into_channel(self) -> Result<Channel> {
        match self {
            Self::Channel(channel) => Ok(channel),
            other => Err(other.unexpected("a channel")),
        }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        Error::internal(format!("expected {wanted}, the answer is {self:?}"))
    }
}

/// The way to one driver, local or remote: what a proxy calls through.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Calls a method. Dropping the future cancels the call.
    ///
    /// # Errors
    /// `NotFound` for a method that the driver lacks, `InvalidArgument` for wrong arguments, else
    /// the driver's own.
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply>;

    /// Calls a method of `interface`: what a proxy does. The wire names the method only, so by
    /// default this is [`Caller::invoke`].
    ///
    /// # Errors
    /// As [`Caller::invoke`].
    fn invoke_interface<'a>(
        &'a self,
        interface: &'static InterfaceDescriptor,
        method: &'a str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> BoxFuture<'a, Result<Reply>> {
        let _ = interface;
        self.invoke(method, kind, arguments)
    }
}

/// Implemented for `dyn Trait` by [`macro@crate::interface`]; never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    note = "write `dyn Power`, or define your own trait with `#[interface(name = …, client = …)]`"
)]
pub trait Interface: Send + Sync + 'static {
    /// Names and method table.
    const DESCRIPTOR: &'static InterfaceDescriptor;

    /// The server adapter: decodes the arguments, calls the method, encodes the answer.
    fn call<'a>(&'a self, method: &'a str, arguments: Arguments) -> BoxFuture<'a, Result<Reply>>;

    /// The proxy: the same trait over a [`Caller`].
    fn remote(caller: Arc<dyn Caller>) -> Arc<Self>;
}

trait Adapter: Send + Sync {
    fn descriptor(&self) -> &'static InterfaceDescriptor;
    fn call<'b>(&'b self, method: &'b str, arguments: Arguments) -> BoxFuture<'b, Result<Reply>>;
}

struct Borrowed<'a, I: ?Sized>(&'a I);

impl<I: Interface + ?Sized> Adapter for Borrowed<'_, I> {
    fn descriptor(&self) -> &'static InterfaceDescriptor {
        I::DESCRIPTOR
    }
    fn call<'b>(&'b self, method: &'b str, arguments: Arguments) -> BoxFuture<'b, Result<Reply>> {
        self.0.call(method, arguments)
    }
}

/// An interface of a driver that is not open.
struct Planned(&'static InterfaceDescriptor);

impl Adapter for Planned {
    fn descriptor(&self) -> &'static InterfaceDescriptor {
        self.0
    }
    fn call<'b>(&'b self, _: &'b str, _: Arguments) -> BoxFuture<'b, Result<Reply>> {
        Box::pin(async { Err(Error::failed_precondition("the driver is not open")) })
    }
}

/// The interfaces of a driver, in order; the first one names its Python client.
#[derive(Default)]
pub struct Interfaces<'a>(Vec<Box<dyn Adapter + 'a>>);

impl fmt::Debug for Interfaces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.descriptors().map(|descriptor| descriptor.name)).finish()
    }
}

impl<'a> Interfaces<'a> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of a driver that is not open: every call is refused.
    pub(crate) fn planned(descriptors: &[&'static InterfaceDescriptor]) -> Self {
        Self(descriptors.iter().map(|descriptor| Box::new(Planned(descriptor)) as Box<_>).collect())
    }

    /// Adds an interface: `Interfaces::new().with::<dyn Machine>(self)`.
    #[must_use]
    pub fn with<I: Interface + ?Sized>(mut self, interface: &'a I) -> Self {
        self.0.push(Box::new(Borrowed(interface)));
        self
    }

    /// Adds [`Power`].
    #[must_use]
    pub fn power(self, power: &'a (dyn Power + 'static)) -> Self {
        self.with::<dyn Power>(power)
    }

    /// Adds [`Network`].
    #[must_use]
    pub fn network(self, network: &'a (dyn Network + 'static)) -> Self {
        self.with::<dyn Network>(network)
    }

    /// Adds [`Serial`].
    #[must_use]
    pub fn serial(self, serial: &'a (dyn Serial + 'static)) -> Self {
        self.with::<dyn Serial>(serial)
    }

    /// Adds [`Flasher`].
    #[must_use]
    pub fn flasher(self, flasher: &'a (dyn Flasher + 'static)) -> Self {
        self.with::<dyn Flasher>(flasher)
    }

    /// Names and method tables, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &'static InterfaceDescriptor> + '_ {
        self.0.iter().map(|adapter| adapter.descriptor())
    }

    /// Calls a method: of `interface` where one is named, else of the only one that has it.
    ///
    /// # Errors
    /// `NotFound` when no interface has the method, with the list of those that exist;
    /// `Unimplemented` when several have it and none is named, or when it is of another kind than
    /// asked for.
    pub(crate) async fn call(
        &self,
        interface: Option<&InterfaceDescriptor>,
        method: &str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> Result<Reply> {
        let wanted =
            |one: &InterfaceDescriptor| interface.is_none_or(|wanted| wanted.name == one.name);
        let mut found = self.0.iter().filter_map(|adapter| {
            let interface = adapter.descriptor();
            let descriptor = interface.method(method).filter(|_| wanted(interface))?;
            Some((adapter, descriptor))
        });
        let Some((adapter, descriptor)) = found.next() else {
            let names: Vec<&str> = self
                .descriptors()
                .flat_map(|interface| interface.methods)
                .map(|method| method.name)
                .collect();
            return Err(Error::not_found(format!("there is no method `{method}`"))
                .refused()
                .with_hint(suggest::hint(method, names.iter().copied())));
        };
        if let Some((other, _)) = found.next() {
            let of = [adapter, other].map(|one| one.descriptor());
            return Err(Ambiguity { method, of }.into_error(ErrorKind::Unimplemented));
        }
        if descriptor.kind != kind {
            let message =
                format!("`{method}` is a {:?} method, called as {kind:?}", descriptor.kind);
            return Err(Error::unimplemented(message.to_lowercase()));
        }
        adapter.call(method, arguments).await
    }
}

/// The error for a method that an interface lacks.
#[doc(hidden)]
pub fn unknown_method(interface: &InterfaceDescriptor, method: &str) -> Error {
    let names = interface.methods.iter().map(|method| method.name);
    Error::not_found(format!("interface `{}` has no method `{method}`", interface.name))
        .refused()
        .with_hint(suggest::hint(method, names))
}
