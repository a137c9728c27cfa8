//! The secrets in environment variables or files. They are found by their schema, and read when
//! they are needed: those of a driver when it is opened.

use jumpstarter_driver_core::Secret;
use serde_json::Value as Json;

use super::check::Checker;
use super::fault::{At, Fault};
use super::paths::visit;
use super::words;
use super::yaml::Node;

/// Records in each such secret of `value` its place in the file called `origin`, for errors.
/// Returns a warning for each that cannot be read now.
pub(super) fn place(
    checker: &Checker,
    schema: &Json,
    value: &mut Json,
    config: (&Node, &At),
    origin: &str,
) -> Vec<Fault> {
    let (node, at) = config;
    let mut warnings = Vec::new();
    visit(checker, schema, value, "", 0, &mut |part, path, value| {
        if words::format(part) != Secret::FORMAT {
            return false;
        }
        let unreadable = serde_json::from_value::<Secret>(value.clone())
            .ok()
            .and_then(|secret| secret.resolve().err());
        if let Some(fields) = value.as_object_mut() {
            // The path of a value may have an index: it is no key.
            let below = match at.path.as_str() {
                "" => path.to_owned(),
                above => format!("{above}.{path}"),
            };
            let (place, path) = (node.locate(path), below);
            let written = format!("{origin}:{}:{}: {path}", place.line, place.column);
            fields.insert("place".to_owned(), written.into());
            warnings.extend(unreadable.map(|error| {
                let warning = Fault::new(place, path, format!("{error:#}"));
                match error.hint() {
                    Some(hint) => warning.hint(hint),
                    None => warning,
                }
            }));
        }
        true
    });
    warnings
}
