//! A number of CPUs, which controllers write as a number or as text.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

/// Reads [`QemuConfig::smp`](super::QemuConfig::smp).
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const EXPECTED: &str = "a number of CPUs, such as 2";
    match Written::deserialize(deserializer) {
        Ok(Written::Number(number)) => Ok(number),
        Ok(Written::Text(text)) => {
            text.trim().parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
        }
        Err(_) => Err(D::Error::custom(format!("expected {EXPECTED}"))),
    }
}

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string"], "minimum": 1, "maximum": 255, "minLength": 1 })
}
