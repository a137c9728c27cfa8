//! The paths in a driver's configuration: found by its schema, and resolved.

use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{HostPath, Result};
use serde_json::{Map, Value as Json};

use super::check::Checker;
use super::fault::join;
use super::words::{array, format};

/// The deepest nesting of values, as in a file.
const MAX_DEPTH: usize = 64;

/// The folders in which relative paths of an exporter file are looked up.
#[derive(Clone, Debug)]
pub(super) struct Bases(Vec<PathBuf>);

impl Bases {
    /// The folders for a file in `folder`; `None` for a text without a file.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        let folder = folder.and_then(|folder| std::path::absolute(folder).ok());
        let mut bases: Vec<PathBuf> = folder.into_iter().collect();
        // The working directory may have been removed.
        bases.extend(std::env::current_dir().ok().filter(|current| !bases.contains(current)));
        Self(bases)
    }

    /// Resolves `text`.
    ///
    /// # Errors
    /// `InvalidArgument` for text that is not a path.
    pub(super) fn path(&self, text: &str) -> Result<HostPath> {
        HostPath::in_folders(text, &self.0)
    }

    /// The program that `text` means: a path, or a name that is looked up in PATH.
    pub(super) fn program(&self, text: &str) -> String {
        let path = self.path(text).ok().filter(|_| text.contains('/'));
        let path = path.and_then(|path| path.find().ok());
        path.and_then(|path| path.into_os_string().into_string().ok())
            .unwrap_or_else(|| text.to_owned())
    }

    /// Resolves `text` to the value of a configuration. Text that is not a path stays, for its type
    /// to refuse.
    fn value(&self, text: &str) -> Json {
        self.path(text).map_or_else(|_| text.into(), |path| path.to_value())
    }
}

/// Replaces each text that is a path by its schema with the value that
/// [`HostPath`](jumpstarter_driver_core::HostPath) reads.
pub(super) fn decide(checker: &Checker, schema: &Json, value: &mut Json, bases: &Bases) {
    visit(checker, schema, value, "", 0, &mut |part, _, value| {
        let is_path = [HostPath::FORMAT, HostPath::FORMAT_OR_URL].contains(&format(part));
        match value.as_str().filter(|_| is_path) {
            Some(text) => *value = bases.value(text),
            None => return false,
        }
        true
    });
}

/// Acts on a value with one of its schemas and its path; returns whether the value is finished.
pub(super) type Act<'a> = dyn FnMut(&Map<String, Json>, &str, &mut Json) -> bool + 'a;

/// Acts on `value` and on everything in it that its schema describes.
pub(super) fn visit(
    checker: &Checker,
    schema: &Json,
    value: &mut Json,
    path: &str,
    depth: usize,
    act: &mut Act<'_>,
) {
    if depth > MAX_DEPTH {
        return;
    }
    for part in checker.parts(schema) {
        if act(part, path, value) {
            return;
        }
        match value {
            Json::Object(fields) => {
                let own = part.get("properties").and_then(Json::as_object);
                for (name, value) in fields {
                    let of_field =
                        own.and_then(|own| own.get(name)).or(part.get("additionalProperties"));
                    if let Some(of_field) = of_field {
                        visit(checker, of_field, value, &join(path, name), depth + 1, act);
                    }
                }
            }
            Json::Array(items) => {
                let first = array(part, "prefixItems");
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(of_item) = first.get(index).or(part.get("items")) {
                        visit(checker, of_item, item, &format!("{path}[{index}]"), depth + 1, act);
                    }
                }
            }
            _ => {}
        }
    }
}
