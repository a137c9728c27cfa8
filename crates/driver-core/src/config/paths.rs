//! The paths in a driver's configuration: found by its schema, and decided where they are.

use serde_json::Value as Json;

use super::check::Checker;
use super::words::{array, format};
use crate::host_path::{Bases, FORMAT, FORMAT_OR_URL};

/// How deep values may be nested, as in a file.
const MAX_DEPTH: usize = 64;

/// Puts what [`HostPath`](crate::HostPath) reads in the place of each text that is a path by its
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
            Json::String(text) if [FORMAT, FORMAT_OR_URL].contains(&format(part)) => {
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
