//! Finds methods that share a name within one driver.

use std::collections::HashMap;

use crate::descriptor::InterfaceDescriptor;
use crate::error::{Error, ErrorKind};

/// Two interfaces of one driver that have a method of the same name. Clients name the driver and
/// the method only, so such a method cannot be called by name.
pub(crate) struct Ambiguity<'a> {
    pub(crate) method: &'a str,
    pub(crate) of: [&'static InterfaceDescriptor; 2],
}

impl Ambiguity<'_> {
    /// The first ambiguity among the interfaces of a driver.
    pub(crate) fn find(interfaces: &[&'static InterfaceDescriptor]) -> Option<Self> {
        let mut first_with = HashMap::new();
        interfaces.iter().find_map(|interface| {
            interface.methods.iter().find_map(|method| {
                let earlier = first_with.insert(method.name, *interface)?;
                Some(Ambiguity { method: method.name, of: [earlier, interface] })
            })
        })
    }

    pub(crate) fn into_error(self, kind: ErrorKind) -> Error {
        let [one, other] = self.of.map(|interface| interface.name);
        let method = self.method;
        Error::new(kind, format!("the interfaces `{one}` and `{other}` both have `{method}`"))
            .with_hint("clients name the driver and the method only: rename one of the two methods, or move one interface to a child")
    }
}
