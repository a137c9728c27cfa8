//! Describes what was found and what was expected.

use jumpstarter_driver_core::{ByteSize, Error, HostPath, Span, suggest};
use serde_json::{Map, Value as Json};

use super::fault::{At, Fault, Place};
use super::yaml::{Node, Value};

/// `synonyms` are those of
/// [`DriverConfig::SYNONYMS`](jumpstarter_driver_core::DriverConfig::SYNONYMS).
pub(super) fn unknown_field(
    key: &str,
    place: Place,
    path: &str,
    known: &[&str],
    synonyms: &[(&str, &str)],
) -> Fault {
    let hint = match suggest::meant(key, known.iter().copied(), synonyms) {
        Some(field) => format!("did you mean `{field}`?"),
        None if known.is_empty() => "there are no fields here".to_owned(),
        None => format!("known here: {}", suggest::list(known.iter().copied())),
    };
    Fault::new(place, path, "unknown field").hint(hint)
}

pub(super) fn not_allowed(
    schema: &Map<String, Json>,
    allowed: &[&Json],
    node: &Node,
    at: &At,
) -> Fault {
    let message = format!("found {}, expected {}", found(schema, &node.value), one_of(allowed));
    let fault = Fault::new(node.place, &at.path, message);
    let names = allowed.iter().filter_map(|value| value.as_str());
    match node.text().and_then(|text| suggest::nearest(text, names)) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

pub(super) fn one_of(values: &[&Json]) -> String {
    let names: Vec<String> = values
        .iter()
        .filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    match names.as_slice() {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", suggest::list(names.iter().map(String::as_str))),
    }
}

/// "a or b", each once; constants in one list.
pub(super) fn join_words(mut parts: Vec<String>) -> String {
    let is_constant = |part: &String| part.starts_with('`') && !part.contains(' ');
    if parts.len() > 2 && parts.iter().all(is_constant) {
        let names: Vec<&str> = parts.iter().map(|part| part.trim_matches('`')).collect();
        return format!("one of {}", suggest::list(names));
    }
    let mut seen = std::collections::HashSet::new();
    parts.retain(|part| seen.insert(part.clone()));
    parts.join(" or ")
}

pub(super) fn array<'a>(schema: &'a Map<String, Json>, key: &str) -> &'a [Json] {
    schema.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn types(schema: &Map<String, Json>) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn is_null(schema: &Map<String, Json>) -> bool {
    types(schema) == ["null"]
}

/// The `format` of a schema: its unit type, if any.
pub(super) fn format(schema: &Map<String, Json>) -> &str {
    schema.get("format").and_then(Json::as_str).unwrap_or_default()
}

/// Why a text is not a value of its unit type.
pub(super) fn misread(schema: &Map<String, Json>, text: &str) -> Option<Error> {
    match format(schema) {
        "byte-size" => text.parse::<ByteSize>().err(),
        "time-span" => text.parse::<Span>().err(),
        HostPath::FORMAT => text.parse::<HostPath>().err(),
        _ => None,
    }
}

pub(super) fn is_type(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => name == "number" || (name == "integer" && !number.is_f64()),
        Value::Text(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
    }
}

pub(super) fn in_words(name: &str, schema: &Map<String, Json>) -> String {
    let kind = match name {
        "string" => return "text".to_owned(),
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => return "`true` or `false`".to_owned(),
        "array" => return "a list".to_owned(),
        "object" => return "a mapping".to_owned(),
        other => return other.to_owned(),
    };
    let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number());
    match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!("{kind} from {least} to {most}"),
        (Some(least), None) if least.as_f64() == Some(0.0) => format!("{kind} (not negative)"),
        (Some(least), None) => format!("{kind} from {least}"),
        (None, Some(most)) => format!("{kind} up to {most}"),
        (None, None) => kind.to_owned(),
    }
}

/// How to write the intended value if the type is a trap of YAML.
pub(super) fn type_hint(types: &[&str], value: &Value) -> Option<String> {
    match value {
        Value::Text(text) if types.contains(&"boolean") => match text.to_ascii_lowercase().as_str()
        {
            "yes" | "on" | "y" => Some("write `true`".to_owned()),
            "no" | "off" | "n" => Some("write `false`".to_owned()),
            "true" | "false" => Some("write it without quotes".to_owned()),
            _ => None,
        },
        Value::Text(text) if types.contains(&"integer") && text.parse::<i64>().is_ok() => {
            Some("write it without quotes".to_owned())
        }
        Value::Number(_) | Value::Bool(_) if types.contains(&"string") => {
            Some("put it in quotes".to_owned())
        }
        _ => None,
    }
}

pub(super) fn is_secret(schema: &Map<String, Json>) -> bool {
    schema.get("writeOnly") == Some(&Json::Bool(true)) || format(schema) == "password"
}

/// Describes the found value; hides a secret.
pub(super) fn found(schema: &Map<String, Json>, value: &Value) -> String {
    match value {
        Value::Number(_) if is_secret(schema) => "a number".to_owned(),
        Value::Text(_) if is_secret(schema) => "text".to_owned(),
        other => describe(other),
    }
}

/// Describes the found value.
pub(super) fn describe(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::Text(text) if text.chars().count() > SHOWN => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("the text {:?}", format!("{start}…"))
        }
        Value::Text(text) => format!("the text {text:?}"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}
