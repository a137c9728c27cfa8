//! The paths in a driver's configuration: found by its schema, and decided where they are.

use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{HostPath, Result};
use serde_json::Value as Json;

use super::check::Checker;
use super::words::{array, format};

/// How deep values may be nested, as in a file.
const MAX_DEPTH: usize = 64;

/// Where relative paths of an exporter file are looked for.
#[derive(Clone, Debug)]
pub(super) struct Bases(Vec<PathBuf>);

impl Bases {
    /// Of a file in `folder`; of a text that is not a file, without one.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        let folder = folder.and_then(|folder| std::path::absolute(folder).ok());
        let mut bases: Vec<PathBuf> = folder.into_iter().collect();
        // The working directory may have been removed.
        bases.extend(std::env::current_dir().ok().filter(|current| !bases.contains(current)));
        Self(bases)
    }

    /// The path that `text` means here.
    ///
    /// # Errors
    /// `InvalidArgument` for text that is no path.
    pub(super) fn path(&self, text: &str) -> Result<HostPath> {
        HostPath::in_folders(text, &self.0)
    }

    /// The same as the value of a configuration. Text that is no path stays, for its type to
    /// refuse.
    fn value(&self, text: &str) -> Json {
        self.path(text).map_or_else(|_| text.into(), |path| path.to_value())
    }
}

/// Puts what [`HostPath`](jumpstarter_driver_core::HostPath) reads in the place of each text that is a path by its
/// schema.
pub(super) fn decide(checker: &Checker, schema: &Json, value: &mut Json, bases: &Bases) {
    below(checker, schema, value, bases, 0);
}

fn below(checker: &Checker, schema: &Json, value: &mut Json, bases: &Bases, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for part in checker.parts(schema) {
        match value {
            Json::String(text)
                if [HostPath::FORMAT, HostPath::FORMAT_OR_URL].contains(&format(part)) =>
            {
                *value = bases.value(text);
                return;
            }
            Json::Object(fields) => {
                let own = part.get("properties").and_then(Json::as_object);
                for (name, value) in fields {
                    let of_field =
                        own.and_then(|own| own.get(name)).or(part.get("additionalProperties"));
                    if let Some(of_field) = of_field {
                        below(checker, of_field, value, bases, depth + 1);
                    }
                }
            }
            Json::Array(items) => {
                let first = array(part, "prefixItems");
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(of_item) = first.get(index).or(part.get("items")) {
                        below(checker, of_item, item, bases, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }
}
