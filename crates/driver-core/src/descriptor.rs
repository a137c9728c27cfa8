//! Descriptors: the names and the method table of an interface, without a driver.

use serde::Serialize;

use crate::error::Error;
use crate::families::FAMILIES;
use crate::suggest;
use crate::value_type::ValueType;

/// The kind of a method's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MethodKind {
    /// One value.
    Unary,
    /// A stream of values.
    Stream,
    /// A byte channel.
    Channel,
}

/// How an argument travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ParameterKind {
    /// A JSON-like value.
    Value,
    /// An image that the driver reads.
    Source,
    /// An image that the driver writes.
    Sink,
    /// As any number of values, which are the last arguments.
    Rest,
}

/// A parameter of a method.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ParameterDescriptor {
    /// The name in the Rust definition; the wire has only positions.
    pub name: &'static str,
    /// Its Rust type, for people.
    #[serde(rename = "type")]
    pub type_name: &'static str,
    /// How the argument travels.
    pub kind: ParameterKind,
    /// Whether callers may omit it.
    pub optional: bool,
    /// The type of its value; `None` for an image.
    pub value: Option<ValueType>,
}

impl ParameterDescriptor {
    /// Used by [`macro@crate::interface`].
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        type_name: &'static str,
        kind: ParameterKind,
        optional: bool,
        value: Option<ValueType>,
    ) -> Self {
        Self { name, type_name, kind, optional, value }
    }
}

/// A method of an interface.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct MethodDescriptor {
    /// Its name in Rust and on the wire.
    pub name: &'static str,
    /// Its doc comment, for help.
    pub documentation: &'static str,
    /// The kind of its answer.
    pub kind: MethodKind,
    /// The Rust type of its result, for people.
    pub returns: &'static str,
    /// Its parameters in order.
    pub parameters: &'static [ParameterDescriptor],
    /// The type of its result; `None` for a channel.
    pub result: Option<ValueType>,
}

impl MethodDescriptor {
    /// Used by [`macro@crate::interface`].
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        documentation: &'static str,
        kind: MethodKind,
        returns: &'static str,
        parameters: &'static [ParameterDescriptor],
        result: Option<ValueType>,
    ) -> Self {
        Self { name, documentation, kind, returns, parameters, result }
    }

    /// Whether it takes any number of arguments.
    pub fn is_variadic(&self) -> bool {
        self.parameters.last().is_some_and(|parameter| parameter.kind == ParameterKind::Rest)
    }

    /// The parameter of the argument at `position`; none for an argument too many.
    pub fn parameter(&self, position: usize) -> Option<&'static ParameterDescriptor> {
        let last = self.parameters.last().filter(|_| self.is_variadic());
        self.parameters.get(position).or(last)
    }

    /// The first sentence of its documentation, on one line and without its full stop.
    pub fn summary(&self) -> String {
        let paragraph = self.documentation.trim().split("\n\n").next().unwrap_or_default();
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let sentence = text.split_inclusive(". ").next().unwrap_or_default().trim();
        sentence.trim_end_matches('.').to_owned()
    }

    /// `flash(source, target?)`: for help and errors.
    pub fn signature(&self) -> String {
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| {
                let suffix = match parameter.kind {
                    ParameterKind::Rest => "…",
                    _ if parameter.optional => "?",
                    _ => "",
                };
                format!("{}{suffix}", parameter.name)
            })
            .collect();
        format!("{}({})", self.name, parameters.join(", "))
    }
}

/// An interface: its names and its method table.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct InterfaceDescriptor {
    /// Its short name, such as `power`.
    pub name: &'static str,
    /// The import path of the Python client class that drives it.
    pub client: &'static str,
    /// Further Python client classes, whose drivers have all methods of this interface.
    #[serde(skip)]
    pub further_clients: &'static [&'static str],
    /// Whether drivers of Python exporters never have it, whatever client class they name.
    #[serde(skip)]
    pub native: bool,
    /// Its doc comment, for help.
    pub documentation: &'static str,
    /// Its methods in the order of their definition.
    pub methods: &'static [MethodDescriptor],
}

impl InterfaceDescriptor {
    /// Used by [`macro@crate::interface`].
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        client: &'static str,
        documentation: &'static str,
        methods: &'static [MethodDescriptor],
    ) -> Self {
        let further_clients = &[];
        Self { name, client, further_clients, native: false, documentation, methods }
    }

    /// Implements `also = […]` of [`macro@crate::interface`].
    #[doc(hidden)]
    pub const fn also(mut self, further_clients: &'static [&'static str]) -> Self {
        self.further_clients = further_clients;
        self
    }

    /// Implements `native` of [`macro@crate::interface`].
    #[doc(hidden)]
    pub const fn native(mut self, native: bool) -> Self {
        self.native = native;
        self
    }

    /// The method of that name, if there is one.
    pub fn method(&self, name: &str) -> Option<&'static MethodDescriptor> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Returns every interface that is linked into this program, sorted by name.
    pub fn linked() -> Vec<&'static InterfaceDescriptor> {
        let mut all: Vec<_> = inventory::iter::<LinkedInterface>().map(|linked| linked.0).collect();
        all.sort_by_key(|interface| (interface.name, interface.client));
        all
    }

    /// The import paths of the client classes that imply a linked interface, as
    /// [`of_client`](Self::of_client) finds it.
    pub fn clients() -> Vec<&'static str> {
        let own = |interface: &&'static InterfaceDescriptor| {
            std::iter::once(interface.client).chain(interface.further_clients.iter().copied())
        };
        let linked = Self::linked();
        let all = linked.iter().flat_map(own).chain(FAMILIES.iter().map(|(_, client)| *client));
        let mut all: Vec<_> = all.filter(|client| !Self::of_client(client).is_empty()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The linked interfaces of a driver of a Python exporter, found by the import path of its
    /// client class.
    pub fn of_client(client: &str) -> Vec<&'static InterfaceDescriptor> {
        let is_listed =
            |interface: &InterfaceDescriptor, client| FAMILIES.contains(&(interface.name, client));
        let drives = |interface: &&InterfaceDescriptor| {
            let is_upstreams = is_listed(interface, interface.client);
            !interface.native
                && (interface.client == client
                    || interface.further_clients.contains(&client)
                    || is_upstreams && is_listed(interface, client))
        };
        Self::linked().into_iter().filter(drives).collect()
    }
}

/// An interface that is linked into this program; made by [`macro@crate::interface`].
#[doc(hidden)]
#[derive(Debug)]
pub struct LinkedInterface(pub &'static InterfaceDescriptor);

inventory::collect!(LinkedInterface);

/// The error for a method that an interface lacks.
#[doc(hidden)]
pub fn unknown_method(interface: &InterfaceDescriptor, method: &str) -> Error {
    let names = interface.methods.iter().map(|method| method.name);
    Error::not_found(format!("interface `{}` has no method `{method}`", interface.name))
        .refused()
        .with_hint(suggest::hint(method, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_the_first_sentence() {
        for (documentation, summary) in [
            ("Cuts power. At\nonce.\n\nPitfall: none.", "Cuts power"),
            (" Streams readings,\n one a second.", "Streams readings, one a second"),
            ("", ""),
        ] {
            let method =
                MethodDescriptor::new("x", documentation, MethodKind::Unary, "", &[], None);
            assert_eq!(method.summary(), summary);
        }
    }
}
