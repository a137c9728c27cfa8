//! Byte sizes ("512M", "1.5GiB") and time spans ("30s", "2min") as configurations write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// A number of bytes. Written as a number of bytes or as text: digits, optionally a fraction, and a
/// unit.
///
/// `K`, `M`, `G`, `T`, `P` (also `Ki`, `KiB`, `Mi`, …) are powers of 1024, as QEMU and qemu-img
/// read them, and so are `KB`, `MB`, `GB`, `TB`, `PB`. `B` or nothing is bytes. Upper and lower
/// case are the same.
///
/// Pitfall: the Python drivers read `KB`, `MB`, `GB`, `TB`, `PB` as powers of 1000. Write `G` or
/// `GiB`, which are the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `mebibytes` MiB.
    pub const fn mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes * 1024 * 1024)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

const BYTE_UNITS: [(&str, u32); 6] =
    [("", 0), ("k", 10), ("m", 20), ("g", 30), ("t", 40), ("p", 50)];

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "expected a size such as 512M, 20G or 1.5GiB";
        let wrong = |why: &str| {
            Error::invalid_argument(format!("`{text}` is not a size: {why}")).with_hint(expected)
        };
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let unit = unit.trim().to_ascii_lowercase();
        let prefix = match unit.as_str() {
            "b" => "",
            other => other
                .strip_suffix("ib")
                .or(other.strip_suffix('b'))
                .or(other.strip_suffix('i'))
                .unwrap_or(other),
        };
        let shift = BYTE_UNITS.iter().find(|(name, _)| *name == prefix).map(|(_, shift)| *shift);
        let shift = shift.ok_or_else(|| wrong(&format!("unknown unit `{unit}`")))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty()
            || (number.contains('.') && fraction.is_empty())
            || fraction.contains('.')
        {
            return Err(wrong("it does not start with a number"));
        }
        let whole: u64 = whole.parse().map_err(|_| wrong("the number is too large"))?;
        let mut bytes = whole
            .checked_mul(1 << shift)
            .ok_or_else(|| wrong("it is more than 16 EiB, the largest size"))?;
        if !fraction.is_empty() {
            if fraction.len() > 9 {
                return Err(wrong("it has more than nine decimals"));
            }
            let scale = 10_u128.pow(fraction.len() as u32);
            let part: u128 = fraction.parse().map_err(|_| wrong("the fraction is not a number"))?;
            let part = (part << shift) / scale;
            bytes = u64::try_from(part)
                .ok()
                .and_then(|part| bytes.checked_add(part))
                .ok_or_else(|| wrong("too large"))?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit with at most one decimal: `512 MiB`, `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) =
            [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)]
                .into_iter()
                .find(|(_, shift)| self.0 >= 1 << shift)
                .unwrap_or(("B", 0));
        if self.0.is_multiple_of(1 << shift) {
            write!(f, "{} {unit}", self.0 >> shift)
        } else {
            write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64)
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({} bytes)", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// A span of time. Written as a number of seconds or as text: a number and a unit (`ms`, `s`, `min`
/// or `m`, `h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

/// The longest time that configurations can write: 100 years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The time `within` from now; a very distant one if a clock cannot show it, as with
/// `Duration::MAX`.
///
/// # Panics
/// Never.
pub fn deadline_after(within: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    now.checked_add(within).unwrap_or_else(|| now + LONGEST)
}

impl Span {
    /// `seconds` seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// `milliseconds` milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// As the standard library's type.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

fn span(seconds: f64) -> Option<Span> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST).map(Span)
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "expected a time such as 500ms, 30s, 2min or 1h";
        let wrong = |why: &str| {
            Error::invalid_argument(format!("`{text}` is not a time: {why}")).with_hint(expected)
        };
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let seconds = match unit.trim() {
            "ms" => 0.001,
            "" | "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            other => return Err(wrong(&format!("unknown unit `{other}`"))),
        };
        let number: f64 = number.parse().map_err(|_| wrong("it does not start with a number"))?;
        span(number * seconds).ok_or_else(|| wrong("it is more than 100 years, the longest time"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            0 => f.write_str("0 s"),
            m if m % 60_000 == 0 => write!(f, "{} min", m / 60_000),
            m if m % 1000 == 0 => write!(f, "{} s", m / 1000),
            m => write!(f, "{m} ms"),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

/// Reads a type with a unit from a number or from text.
struct UnitVisitor<T> {
    expected: &'static str,
    number: fn(f64) -> Option<T>,
}

impl<T: FromStr<Err = Error>> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        // Through text, so that large numbers lose no digit.
        number.to_string().parse().map_err(|error: Error| E::custom(error.report()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        let expected = self.expected;
        (self.number)(number)
            .ok_or_else(|| E::custom(format!("`{number}` is out of range: expected {expected}")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error: Error| E::custom(error.report()))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor {
            expected: "a size such as 512M or 20G, or a number of bytes",
            number: |n| {
                (n >= 0.0 && n.fract() == 0.0 && n < u64::MAX as f64).then_some(ByteSize(n as u64))
            },
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor {
            expected: "a time such as 30s or 2min, or a number of seconds",
            number: span,
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size such as 512M, 20G or 1.5GiB (powers of 1024), or a number of bytes.",
            "type": ["string", "integer"],
            "format": "byte-size",
            "minimum": 0,
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time such as 500ms, 30s, 2min or 1h, or a number of seconds.",
            "type": ["string", "number"],
            "format": "time-span",
            "minimum": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: u64) {
        assert_eq!(text.parse::<ByteSize>().unwrap().as_bytes(), bytes, "{text}");
    }

    #[test]
    fn sizes() {
        check("512M", 512 << 20);
        check("20G", 20 << 30);
        check("1.5GiB", 3 << 29);
        check("10Gi", 10 << 30);
        check("4096", 4096);
        check("1 kb", 1024);
        check("7b", 7);
        check("18446744073709551615", u64::MAX);
        for wrong in ["", "M", "1.G", "1..5G", "12Q", "-1", "99999999P", "1.0000000001G", "20 G G"]
        {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
        assert_eq!(ByteSize::mebibytes(512).to_string(), "512 MiB");
        assert_eq!("1.5G".parse::<ByteSize>().unwrap().to_string(), "1.5 GiB");
    }

    #[test]
    fn sizes_from_values() {
        assert_eq!(serde_json::from_str::<ByteSize>("1048576").unwrap().as_bytes(), 1 << 20);
        assert_eq!(serde_json::from_str::<ByteSize>("\"1M\"").unwrap().as_bytes(), 1 << 20);
        assert!(serde_json::from_str::<ByteSize>("1.5").is_err());
        assert!(serde_json::from_str::<ByteSize>("-5").is_err());
    }

    #[test]
    fn spans() {
        assert_eq!("500ms".parse::<Span>().unwrap(), Span::milliseconds(500));
        assert_eq!("2min".parse::<Span>().unwrap(), Span::seconds(120));
        assert_eq!(serde_json::from_str::<Span>("1.5").unwrap(), Span::milliseconds(1500));
        for wrong in ["", "s", "5 parsecs", "-1s", "1e400h", "101000000min"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Span>("1e18").is_err());
    }

    #[test]
    fn a_deadline_may_be_beyond_what_a_clock_shows() {
        let now = tokio::time::Instant::now();
        assert!(deadline_after(Duration::MAX) > now + Duration::from_secs(1 << 30));
        assert!(deadline_after(Duration::ZERO) < now + Duration::from_secs(1 << 30));
    }
}
