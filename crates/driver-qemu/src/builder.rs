//! Machines for programs without an exporter file.

use jumpstarter_driver_core::prelude::*;

use crate::config::QemuConfig;
use crate::names::Names;
use crate::vm::Vm;

/// Creates machines with unique names.
///
/// A name is free again when its machine is destroyed or its last handle is dropped.
#[derive(Clone, Debug, Default)]
pub struct QemuDriver {
    names: Names,
}

impl QemuDriver {
    /// A driver without machines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a machine that is off; see [`Vm::create`].
    ///
    /// # Errors
    /// `AlreadyExists` if a machine of that name exists, else the errors of [`Vm::create`].
    pub async fn create_vm(&self, name: impl Into<String>, config: QemuConfig) -> Result<Vm> {
        let name = name.into();
        let Some(held) = self.names.hold(&name) else {
            let message = format!("there is a machine `{name}` already");
            return Err(Error::already_exists(message)
                .with_hint("destroy it first, or choose another name"));
        };
        Vm::create_named(name, config, Some(held)).await
    }
}
