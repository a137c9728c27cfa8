//! Machines for programs that want no exporter file.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::prelude::*;

use crate::config::QemuConfig;
use crate::vm::{Vm, lock};

/// Makes machines, each with a name of its own.
///
/// A name is free again when its machine is destroyed or its last handle dropped.
#[derive(Clone, Debug, Default)]
pub struct QemuDriver {
    names: Arc<Mutex<HashSet<String>>>,
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
        if !lock(&self.names).insert(name.clone()) {
            let message = format!("there is a machine `{name}` already");
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .with_hint("destroy it first, or choose another name"));
        }
        let taken = NameGuard { names: self.names.clone(), name: name.clone() };
        Vm::create_named(name, config, Some(taken)).await
    }
}

/// Holds a name until it is dropped.
#[derive(Debug)]
pub(crate) struct NameGuard {
    names: Arc<Mutex<HashSet<String>>>,
    name: String,
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        lock(&self.names).remove(&self.name);
    }
}
