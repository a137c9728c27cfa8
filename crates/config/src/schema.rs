//! The JSON schemas of exporter files: of the entries, of a driver's configuration, of the whole
//! file.

use jumpstarter_driver_core::{DriverEntry, Registry, Result};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::settings::Settings;

/// The JSON schema (draft 2020-12) of exporter files for the drivers of a registry.
///
/// Editors validate and complete with it. `config` follows `type`; a driver's Python import paths
/// work like its name.
///
/// # Errors
/// `AlreadyExists` if two drivers share a name.
pub fn schema(registry: &Registry) -> Result<Json> {
    let mut generator = SchemaGenerator::default();
    let mut root = Settings::json_schema(&mut generator).to_value();
    let mut choices = Vec::new();
    let mut names = Vec::new();
    let mut configs = Map::new();
    for entry in registry.drivers()? {
        let mut config = (entry.schema)(&mut generator).to_value();
        let required = config.get("required").is_some();
        if let Some(config) = config.as_object_mut() {
            let properties = config.entry("properties").or_insert_with(|| json!({}));
            if let Some(properties) = properties.as_object_mut() {
                properties.entry("log_level").or_insert_with(log_level_shape);
            }
            // Editors show the title when they offer to fill in required fields.
            config.insert("title".to_owned(), format!("configuration of {}", entry.name).into());
        }
        let own: Vec<&str> = entry.names().collect();
        let mut then =
            json!({"properties": {"config": {"$ref": format!("#/$defs/driver:{}", entry.name)}}});
        if required {
            then["required"] = json!(["config"]);
        }
        choices
            .push(json!({"if": {"properties": {"type": {"enum": own}}, "required": ["type"]}, "then": then}));
        names.extend(own);
        configs.insert(format!("driver:{}", entry.name), config);
    }
    let mut driver = driver_shape();
    // A host takes the import path of any class.
    let any = registry.host().map(|_| json!({"pattern": "[.]"}));
    match any {
        Some(any) => driver["properties"]["type"]["anyOf"] = json!([{"enum": names}, any]),
        None => driver["properties"]["type"]["enum"] = json!(names),
    }
    driver["allOf"] = Json::Array(choices);
    let children =
        json!({"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/entry"}});
    let mut group = group_shape();
    for shape in [&mut driver, &mut group] {
        let about = shape["properties"]["children"]["description"].take();
        shape["properties"]["children"] = children.clone();
        shape["properties"]["children"]["description"] = about;
    }
    let mut definitions = generator.take_definitions(true);
    definitions.extend(configs);
    let mut proxy = proxy_shape();
    for (shape, title) in [(&mut driver, "driver"), (&mut proxy, "proxy"), (&mut group, "group")] {
        shape["title"] = title.into();
    }
    definitions
        .insert("entry".to_owned(), json!({"type": "object", "oneOf": [driver, proxy, group]}));
    root["properties"]["export"] = children;
    root["properties"]["export"]["description"] = json!("The drivers of the device, by name.");
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Jumpstarter exporter configuration");
    root["$defs"] = Json::Object(definitions);
    without_null_defaults(&mut root);
    Ok(root)
}

/// Removes every `"default": null`, which only says that a field is optional: the YAML language
/// server stops completing at the first.
fn without_null_defaults(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            fields.retain(|key, value| key != "default" || !value.is_null());
            fields.values_mut().for_each(without_null_defaults);
        }
        Json::Array(items) => items.iter_mut().for_each(without_null_defaults),
        _ => {}
    }
}

/// The schema of one driver's `config` and the definitions that it refers to.
///
/// ```
/// let entry = jumpstarter_driver_core::Registry::linked().find("composite")?;
/// let (schema, _definitions) = jumpstarter_config::of_driver(entry);
/// assert_eq!(schema["type"], "object");
/// # Ok::<(), jumpstarter_driver_core::Error>(())
/// ```
pub fn of_driver(entry: &DriverEntry) -> (Json, Map<String, Json>) {
    let mut generator = SchemaGenerator::default();
    let schema = (entry.schema)(&mut generator).to_value();
    (schema, generator.take_definitions(true))
}

/// The schema of the file without the contents of `export`.
pub(super) fn of_settings() -> (Json, Map<String, Json>) {
    let mut generator = SchemaGenerator::default();
    let mut schema = Settings::json_schema(&mut generator).to_value();
    schema["properties"]["export"] = Json::Bool(true);
    (schema, generator.take_definitions(true))
}

/// An entry with `type`; its `children` and `config` are checked separately.
pub(super) fn driver_shape() -> Json {
    json!({
        "type": "object",
        "properties": {
            "type": {"type": "string", "minLength": 1, "description": "The driver: its short name or its Python import path."},
            "description": {"type": ["string", "null"], "description": "What it is, for people."},
            "methods_description": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "string"},
                "description": "Help for its methods, by name.",
            },
            "config": {"type": ["object", "null"], "description": "The driver's configuration."},
            "python": {"type": "boolean", "description": "Whether the driver in Python is used, hosted in a separate process, although this program has the driver."},
            "children": {"type": ["object", "null"], "description": "Drivers under this one."},
        },
        "required": ["type"],
        "additionalProperties": false,
    })
}

/// An entry with `ref`.
pub(super) fn proxy_shape() -> Json {
    json!({
        "type": "object",
        "properties": {
            "ref": {"type": "string", "minLength": 1, "description": "The driver that this stands for: its dotted path from the root."},
            "description": {"type": ["string", "null"], "description": "What it is, for people."},
        },
        "required": ["ref"],
        "additionalProperties": false,
    })
}

/// An entry with `children` only.
pub(super) fn group_shape() -> Json {
    json!({
        "type": "object",
        "properties": {
            "children": {"type": ["object", "null"], "description": "The drivers of this group."},
            "description": {"type": ["string", "null"], "description": "What it is, for people."},
        },
        "required": ["children"],
        "additionalProperties": false,
    })
}

/// `log_level`, which every Python driver takes.
pub(super) fn log_level_shape() -> Json {
    json!({
        "enum": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        "description": "What the driver logs, by Python's names.",
    })
}
