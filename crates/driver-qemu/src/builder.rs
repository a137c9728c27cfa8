//! Machines for programs that want no exporter file.

use jumpstarter_driver_core::prelude::*;

use crate::config::QemuConfig;
use crate::names::Names;
use crate::vm::Vm;

/// Makes machines under names that differ.
///
/// A name is free again when its machine is destroyed or its last handle dropped.
#[derive(Clone, Debug, Default)]
pub struct QemuDriver {
    names: Names,
}

impl QemuDriver {
    /// No machines yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a machine that is off; see [`Vm::create`].
    ///
    /// # Errors
    /// `AlreadyExists` when a machine of that name is there, else those of [`Vm::create`].
    pub async fn create_vm(&self, name: impl Into<String>, config: QemuConfig) -> Result<Vm> {
        let name = name.into();
        let Some(held) = self.names.hold(&name) else {
            let message = format!("there is a machine `{name}` already");
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .with_hint("destroy it first, or choose another name"));
        };
        Vm::create_named(name, config, Some(held)).await
    }
}
