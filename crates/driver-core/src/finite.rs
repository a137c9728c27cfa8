//! Numbers that JSON-like values cannot hold: NaN and the infinities would silently become null.

use std::fmt;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Value;

/// Why a value has no JSON form.
#[derive(Debug)]
pub(crate) enum NoJson {
    /// A number in it is not finite; its path from the inside out.
    NotFinite(f64, Vec<String>),
    /// Something else.
    Other(serde_json::Error),
}

/// The JSON form of `value`.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value, NoJson> {
    match value.serialize(Check) {
        Err(Found::NotFinite(number, path)) => return Err(NoJson::NotFinite(number, path)),
        // Other errors are reported better below.
        Err(Found::Other) | Ok(()) => {}
    }
    serde_json::to_value(value).map_err(NoJson::Other)
}

impl fmt::Display for NoJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite(number, path) if path.is_empty() => {
                write!(f, "it is {number}, and only finite numbers can be sent")
            }
            Self::NotFinite(number, path) => {
                let path: Vec<&str> = path.iter().rev().map(String::as_str).collect();
                write!(f, "`{}` is {number}, and only finite numbers can be sent", path.join("."))
            }
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NoJson {}

/// What [`Check`] finds.
#[derive(Debug)]
enum Found {
    NotFinite(f64, Vec<String>),
    Other,
}

impl Found {
    fn under(mut self, name: impl ToString) -> Self {
        if let Self::NotFinite(_, path) = &mut self {
            path.push(name.to_string());
        }
        self
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

type Checked = Result<(), Found>;

/// A serializer without output; it fails at the first number that is not finite.
struct Check;

/// The parts of a list, and the number of those seen.
struct Items(usize);

/// The parts of a mapping, and the last key.
struct Entries(String);

macro_rules! is_sound {
    ($($method:ident($($kind:ty),*)),* $(,)?) => {$(
        fn $method(self, $(_: $kind),*) -> Checked {
            Ok(())
        }
    )*};
}

impl Serializer for Check {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    is_sound! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    fn serialize_f32(self, number: f32) -> Checked {
        self.serialize_f64(f64::from(number))
    }
    fn serialize_f64(self, number: f64) -> Checked {
        if number.is_finite() { Ok(()) } else { Err(Found::NotFinite(number, Vec::new())) }
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self).map_err(|found| found.under(variant))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Found> {
        Ok(Items(0))
    }
    fn serialize_tuple(self, _: usize) -> Result<Items, Found> {
        Ok(Items(0))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Found> {
        Ok(Items(0))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items, Found> {
        Ok(Items(0))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Found> {
        Ok(Entries(String::new()))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Found> {
        Ok(Entries(String::new()))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Entries, Found> {
        Ok(Entries(String::new()))
    }
}

impl Items {
    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(Check).map_err(|found| found.under(self.0))?;
        self.0 += 1;
        Ok(())
    }
}

macro_rules! items {
    ($($part:ident::$method:ident),*) => {$(
        impl $part for Items {
            type Ok = ();
            type Error = Found;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
                self.next(value)
            }
            fn end(self) -> Checked {
                Ok(())
            }
        }
    )*};
}
items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($part:ident),*) => {$(
        impl $part for Entries {
            type Ok = ();
            type Error = Found;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Checked {
                value.serialize(Check).map_err(|found| found.under(key))
            }
            fn end(self) -> Checked {
                Ok(())
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Entries {
    type Ok = ();
    type Error = Found;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Checked {
        self.0 = match serde_json::to_value(key) {
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(_) => "?".to_owned(),
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(Check).map_err(|found| found.under(&self.0))
    }
    fn end(self) -> Checked {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Reading {
        voltage: f64,
        limits: Vec<(f32, Option<f32>)>,
    }

    #[track_caller]
    fn refused(value: &impl Serialize, why: &str) {
        assert_eq!(to_json(value).unwrap_err().to_string(), why);
    }

    #[test]
    fn only_finite_numbers_pass_and_the_others_are_named() {
        let sound = Reading { voltage: 1.5, limits: vec![(0.0, None), (1.0, Some(2.0))] };
        let expected = serde_json::json!({"voltage": 1.5, "limits": [[0.0, null], [1.0, 2.0]]});
        assert_eq!(to_json(&sound).unwrap(), expected);
        refused(&f64::NAN, "it is NaN, and only finite numbers can be sent");
        refused(
            &Reading { voltage: f64::NAN, ..sound },
            "`voltage` is NaN, and only finite numbers can be sent",
        );
        let deep = Reading { voltage: 0.0, limits: vec![(0.0, None), (1.0, Some(f32::INFINITY))] };
        refused(&deep, "`limits.1.1` is inf, and only finite numbers can be sent");
        let by_rail = BTreeMap::from([("main", 1.0), ("spare", f64::NEG_INFINITY)]);
        refused(&by_rail, "`spare` is -inf, and only finite numbers can be sent");
        refused(&BTreeMap::from([((1, 2), 3)]), "key must be a string");
        assert_eq!(to_json(&BTreeMap::from([(7, 1.0)])).unwrap(), serde_json::json!({"7": 1.0}));
    }
}
