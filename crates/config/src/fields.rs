//! A driver's configuration as a table: for `jmp drivers NAME` and the book.

use jumpstarter_driver_core::{ByteSize, DriverEntry, Span};
use serde_json::{Map, Value as Json};

use super::check::Checker;
use super::schema;
use super::words;

/// The deepest nesting of listed fields.
const MAX_DEPTH: usize = 4;

/// One field of a driver's configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConfigField {
    /// The keys that lead to it, as `hostfwd.NAME.hostport`; `NAME` stands for any key, `[]` for
    /// any item of a list.
    pub path: String,
    /// The accepted values in words: `a whole number from 0 to 65535`.
    pub expected: String,
    /// Whether it must be present.
    pub required: bool,
    /// The default, if the schema has one; never that of a secret. Sizes and times are text with a
    /// unit.
    pub default: Option<Json>,
    /// Its doc comment, else its type's.
    pub documentation: String,
    /// The accepted values, if they are few, each with its meaning; the meaning is empty if it is
    /// not documented.
    pub values: Vec<(Json, String)>,
}

/// The fields of a driver's configuration: sorted, or, with the feature `preserve_order`, in the
/// order in which they are declared.
pub fn fields(entry: &DriverEntry) -> Vec<ConfigField> {
    let (schema, definitions) = schema::of_driver(entry);
    let mut found = Vec::new();
    let checker = Checker::new(definitions);
    below(&checker, &schema, "", MAX_DEPTH, &mut found);
    found
}

fn below(checker: &Checker, schema: &Json, path: &str, depth: usize, found: &mut Vec<ConfigField>) {
    let parts = checker.parts(schema);
    for part in parts.iter().filter(|_| depth > 0) {
        let required = part.get("required").and_then(Json::as_array);
        for (name, of_field) in
            part.get("properties").and_then(Json::as_object).into_iter().flatten()
        {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            // Alternatives share their tag: it is listed once.
            if found.iter().any(|field| field.path == path) {
                continue;
            }
            let secret = checker
                .parts(of_field)
                .iter()
                .any(|part| part.get("writeOnly") == Some(&Json::Bool(true)));
            found.push(ConfigField {
                expected: of_field
                    .as_object()
                    .map_or_else(|| "anything".to_owned(), |schema| checker.expected(schema)),
                required: required
                    .is_some_and(|names| names.iter().any(|required| required == name)),
                default: of_field.get("default").filter(|value| !secret && !value.is_null()).map(
                    |value| {
                        let format = checker
                            .parts(of_field)
                            .iter()
                            .map(|part| words::format(part))
                            .find(|name| !name.is_empty());
                        readable(value, format.unwrap_or_default())
                    },
                ),
                documentation: documentation(checker, of_field),
                values: values(checker, of_field),
                path: path.clone(),
            });
            if !secret {
                below(checker, of_field, &path, depth - 1, found);
            }
        }
        for (key, step) in [("additionalProperties", ".NAME"), ("items", "[]")] {
            if let Some(inner) = part.get(key).filter(|inner| inner.is_object()) {
                below(checker, inner, &format!("{path}{step}"), depth - 1, found);
            }
        }
    }
}

/// A size or time with its unit, as people write it.
fn readable(value: &Json, format: &str) -> Json {
    match format {
        "byte-size" => value.as_u64().map(|bytes| ByteSize::bytes(bytes).to_string().into()),
        "time-span" => {
            serde_json::from_value::<Span>(value.clone()).ok().map(|span| span.to_string().into())
        }
        _ => None,
    }
    .unwrap_or_else(|| value.clone())
}

/// The field's own doc comment, else its type's.
fn documentation(checker: &Checker, schema: &Json) -> String {
    let of = |schema: &Map<String, Json>| {
        schema.get("description").and_then(Json::as_str).map(str::to_owned)
    };
    let own = schema.as_object().and_then(of);
    own.or_else(|| checker.parts(schema).into_iter().find_map(of)).unwrap_or_default()
}

/// The constants of an enumeration whose values are documented.
fn values(checker: &Checker, schema: &Json) -> Vec<(Json, String)> {
    let parts = checker.parts(schema);
    let constant = |part: &&Map<String, Json>| {
        let about = part.get("description").and_then(Json::as_str).unwrap_or_default();
        Some((part.get("const")?.clone(), about.to_owned()))
    };
    let documented: Vec<(Json, String)> = parts.iter().filter_map(constant).collect();
    match documented.iter().all(|(_, about)| about.is_empty()) {
        true => Vec::new(),
        false => documented,
    }
}
