//! A number of CPUs, which controllers write as a number or as text.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

/// Reads [`QemuConfig::smp`](super::QemuConfig::smp).
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const EXPECTED: &str = "expected a whole number (not negative)";
    match Written::deserialize(deserializer) {
        Ok(Written::Number(number)) => Ok(number),
        Ok(Written::Text(text)) => text
            .trim()
            .parse()
            .map_err(|_| D::Error::custom(format!("found the text {text:?}, {EXPECTED}"))),
        Err(_) => Err(D::Error::custom(EXPECTED)),
    }
}

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string"], "minimum": 0 })
}
