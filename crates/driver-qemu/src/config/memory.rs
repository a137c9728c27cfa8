//! Sizes of memory, in which a bare number may mean MiB.

use std::borrow::Cow;
use std::fmt;

use jumpstarter_driver_core::prelude::*;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::value::{F64Deserializer, StrDeserializer, U64Deserializer};
use serde::de::{IntoDeserializer, Visitor};
use serde::{Deserializer, Serializer};

/// Bare numbers below it are numbers of MiB.
const SMALLEST: u64 = 1 << 20;

/// A size of memory. It is read as a [`ByteSize`], except for a bare number below 1 MiB: that is a
/// number of MiB, as for QEMU's `-m` and the Python driver. So `1024` is 1 GiB, and `1024K` is 1
/// MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(pub ByteSize);

impl From<ByteSize> for MemorySize {
    fn from(size: ByteSize) -> Self {
        Self(size)
    }
}

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With its unit: a small size must not be read as MiB.
        serializer.collect_str(&format_args!("{}B", self.0.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemoryVisitor).map(Self)
    }
}

impl JsonSchema for MemorySize {
    fn schema_name() -> Cow<'static, str> {
        "MemorySize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size such as 512M or 1.5GiB (powers of 1024), or a number: of MiB below 1048576, else of bytes.",
            "type": ["string", "integer"],
            "format": "byte-size",
            "minimum": 0,
        })
    }
}

/// Reads [`QemuConfig::mem`](super::QemuConfig::mem).
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ByteSize, D::Error> {
    MemorySize::deserialize(deserializer).map(|size| size.0)
}

struct MemoryVisitor;

impl Visitor<'_> for MemoryVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 512M or 20G, or a number of bytes")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ByteSize, E> {
        if number < SMALLEST {
            return Ok(ByteSize::mebibytes(number));
        }
        let number: U64Deserializer<E> = number.into_deserializer();
        ByteSize::deserialize(number)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ByteSize, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => self.visit_f64(number as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<ByteSize, E> {
        // Every number is one of these on the wire.
        let number: F64Deserializer<E> = number.into_deserializer();
        let size = ByteSize::deserialize(number)?;
        self.visit_u64(size.as_bytes())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        if let Ok(number) = text.trim().parse() {
            return self.visit_u64(number);
        }
        let text: StrDeserializer<'_, E> = text.into_deserializer();
        ByteSize::deserialize(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(value: Value, bytes: u64) {
        assert_eq!(serde_json::from_value::<MemorySize>(value).unwrap().0.as_bytes(), bytes);
    }

    #[test]
    fn bare_small_numbers_are_mebibytes() {
        check(json!(512), 512 << 20);
        check(json!(512.0), 512 << 20);
        check(json!("1024"), 1 << 30);
        check(json!("1G"), 1 << 30);
        check(json!("512K"), 512 << 10);
        check(json!(1 << 30), 1 << 30);
        check(json!("2097152"), 2 << 20);
        for wrong in [json!(-1), json!(1.5), json!("12Q"), json!([]), json!("")] {
            assert!(serde_json::from_value::<MemorySize>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for size in [ByteSize::bytes(4096), ByteSize::mebibytes(1), ByteSize::mebibytes(3000)] {
            let written = serde_json::to_value(MemorySize(size)).unwrap();
            assert_eq!(serde_json::from_value::<MemorySize>(written).unwrap(), MemorySize(size));
        }
    }
}
