//! Names that machines hold.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// The names in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashSet<String>>>);

impl Names {
    /// Holds a name; `None` if it is held already.
    pub(crate) fn hold(&self, name: &str) -> Option<NameGuard> {
        let is_free = lock(&self.0).insert(name.to_owned());
        is_free.then(|| NameGuard { names: self.clone(), name: name.to_owned() })
    }
}

/// Holds a name until it is dropped.
#[derive(Debug)]
pub(crate) struct NameGuard {
    names: Names,
    name: String,
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        lock(&self.names.0).remove(&self.name);
    }
}
