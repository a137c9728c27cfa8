//! Interfaces, and those of one driver.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::ambiguity::Ambiguity;
use crate::arguments::Arguments;
use crate::call::{Caller, Reply};
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::error::{Error, ErrorKind, Result};
use crate::suggest;

/// An interface, as `dyn Power`. [`macro@crate::interface`] defines it; it is never implemented by
/// hand. The attribute turns one trait into the trait itself, the table of its methods, the adapter
/// that serves it and the proxy that calls it remotely.
///
/// The return type decides the kind of a method: `Result<Channel>` opens a byte channel,
/// `Result<ValueStream<T>>` yields a stream, any other `Result<T>` answers once. Arguments are
/// owned; an [`ImageSource`](crate::ImageSource) or [`ImageSink`](crate::ImageSink) travels as a
/// resource, any other type as JSON. Trailing `Option`s may be omitted.
///
/// On the wire a call names the driver and the method, not the interface. Two interfaces of one
/// driver must not have a method of the same name: opening such a driver from an exporter file
/// fails with `AlreadyExists`, and a call of that method by name with `Unimplemented`. In the same
/// process `device.get::<dyn Meter>(path)?.off()` always calls the `off` of `Meter`.
///
/// ```
/// use jumpstarter_driver_core::prelude::*;
///
/// /// A relay that counts.
/// #[interface(name = "relay", client = "acme.client.RelayClient")]
/// pub trait Relay {
///     /// Clicks `times` times and returns the clicks so far.
///     async fn click(&self, times: u32) -> Result<u32>;
/// }
///
/// struct Board;
/// #[async_trait]
/// impl Relay for Board {
///     async fn click(&self, times: u32) -> Result<u32> {
///         Ok(times)
///     }
/// }
/// impl Driver for Board {
///     interfaces!(Relay);
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let device = Device::of_driver(Board);
/// assert_eq!(device.get::<dyn Relay>("")?.click(3).await?, 3);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    note = "write `dyn Power`, or define your own trait with `#[interface(name = …, client = …)]`"
)]
pub trait Interface: sealed::Sealed + Send + Sync + 'static {
    /// The names and the method table.
    const DESCRIPTOR: &'static InterfaceDescriptor;

    /// The server adapter: decodes the arguments, calls the method, encodes the answer.
    fn call<'a>(&'a self, method: &'a str, arguments: Arguments) -> BoxFuture<'a, Result<Reply>>;

    /// The proxy: the same trait over a [`Caller`].
    fn remote(caller: Arc<dyn Caller>) -> Arc<Self>;
}

/// Restricts [`Interface`] to traits that [`macro@crate::interface`] makes.
pub(crate) mod sealed {
    /// An interface that the attribute made.
    pub trait Sealed {}
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
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The interfaces of a driver that is not open: every call is refused.
    pub(crate) fn planned(descriptors: &[&'static InterfaceDescriptor]) -> Self {
        Self(descriptors.iter().map(|descriptor| Box::new(Planned(descriptor)) as Box<_>).collect())
    }

    /// Adds an interface: `Interfaces::new().with::<dyn Machine>(self)`.
    #[must_use]
    pub fn with<I: Interface + ?Sized>(mut self, interface: &'a I) -> Self {
        self.0.push(Box::new(Borrowed(interface)));
        self
    }

    /// The names and method tables, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &'static InterfaceDescriptor> + '_ {
        self.0.iter().map(|adapter| adapter.descriptor())
    }

    /// Calls a method: of `interface` if one is named, else of the only interface that has it.
    ///
    /// # Errors
    /// `NotFound` if no interface has the method, with a list of the methods that exist;
    /// `Unimplemented` if several interfaces have it and none is named, or if it is of another kind
    /// than requested.
    pub(crate) async fn call(
        &self,
        interface: Option<&InterfaceDescriptor>,
        method: &str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> Result<Reply> {
        // A client class may drive an interface by the methods of another one.
        let interface = interface
            .filter(|wanted| self.descriptors().any(|offered| offered.name == wanted.name));
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
