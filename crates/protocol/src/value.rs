//! JSON values as `google.protobuf.Value`, and back.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Wire};
use serde_json::{Number, Value};

/// The deepest nesting of values; the wire format's own limit is about the same.
const MAX_DEPTH: usize = 64;
/// The most values in the arguments of a call, nested ones included. A value of two bytes on the
/// wire takes about a hundred in memory.
const MAX_ARGUMENT_VALUES: usize = 10_000;

/// A value that cannot cross the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// JSON has neither NaN nor infinities.
    #[error("a number is {0}, which JSON cannot say")]
    NotFinite(String),
    /// Nested deeper than any argument should be.
    #[error("the value is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than the arguments of a call may have.
    #[error("there are more than {MAX_ARGUMENT_VALUES} values")]
    TooMany,
}

/// Encodes a JSON value. Numbers become doubles: integers above 2^53 lose their last digits.
///
/// # Errors
/// [`ValueError::TooDeep`]; [`ValueError::NotFinite`] for a number beyond a double's range.
pub fn encode_value(value: &Value) -> Result<Wire, ValueError> {
    encode(value, MAX_DEPTH)
}

/// Decodes to a JSON value; a value without a kind is null.
///
/// # Errors
/// [`ValueError::NotFinite`], [`ValueError::TooDeep`].
pub fn decode_value(value: Wire) -> Result<Value, ValueError> {
    let mut any_number = usize::MAX;
    decode(value, MAX_DEPTH, &mut any_number)
}

/// Decodes the arguments of a call, which are held as long as the call lasts.
///
/// # Errors
/// As [`decode_value`]; [`ValueError::TooMany`].
pub fn decode_arguments(arguments: Vec<Wire>) -> Result<Vec<Value>, ValueError> {
    let mut left = MAX_ARGUMENT_VALUES;
    arguments.into_iter().map(|argument| decode(argument, MAX_DEPTH, &mut left)).collect()
}

fn encode(value: &Value, depth: usize) -> Result<Wire, ValueError> {
    let depth = depth.checked_sub(1).ok_or(ValueError::TooDeep)?;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => {
            let double = number.as_f64().filter(|double| double.is_finite());
            Kind::NumberValue(double.ok_or_else(|| ValueError::NotFinite(number.to_string()))?)
        }
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            let values = items.iter().map(|item| encode(item, depth)).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(key, item)| Ok((key.clone(), encode(item, depth)?)));
            Kind::StructValue(Struct { fields: fields.collect::<Result<_, _>>()? })
        }
    };
    Ok(Wire { kind: Some(kind) })
}

fn decode(value: Wire, depth: usize, left: &mut usize) -> Result<Value, ValueError> {
    let depth = depth.checked_sub(1).ok_or(ValueError::TooDeep)?;
    *left = left.checked_sub(1).ok_or(ValueError::TooMany)?;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(double)) => Value::Number(
            Number::from_f64(double).ok_or_else(|| ValueError::NotFinite(double.to_string()))?,
        ),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().map(|item| decode(item, depth, left));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(map)) => {
            let fields =
                map.fields.into_iter().map(|(key, item)| Ok((key, decode(item, depth, left)?)));
            Value::Object(fields.collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("JSON has finite numbers only", |d| d.is_finite())
                .prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".{0,6}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(value in any_value()) {
            prop_assert_eq!(decode_value(encode_value(&value).unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn integers_travel_as_doubles() {
        let sent = encode_value(&json!([1, -7, u64::MAX])).unwrap();
        assert_eq!(decode_value(sent).unwrap(), json!([1.0, -7.0, 18446744073709551615.0]));
    }

    #[test]
    fn no_kind_is_null() {
        assert_eq!(decode_value(Wire { kind: None }).unwrap(), Value::Null);
    }

    #[test]
    fn not_a_number_is_refused() {
        for (double, name) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")]
        {
            let inner = Wire { kind: Some(Kind::NumberValue(double)) };
            let list = Wire { kind: Some(Kind::ListValue(ListValue { values: vec![inner] })) };
            assert_eq!(decode_value(list), Err(ValueError::NotFinite(name.to_owned())));
        }
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(encode_value(&deep), Err(ValueError::TooDeep));
    }

    #[test]
    fn arguments_that_would_fill_the_memory_are_refused() {
        let arguments = |count| vec![encode_value(&json!(vec![Value::Null; count])).unwrap()];
        assert_eq!(decode_arguments(arguments(MAX_ARGUMENT_VALUES)), Err(ValueError::TooMany));
        assert_eq!(decode_arguments(arguments(MAX_ARGUMENT_VALUES - 1)).unwrap().len(), 1);
        let many = [arguments(6_000), arguments(6_000)].concat();
        assert_eq!(
            decode_arguments(many),
            Err(ValueError::TooMany),
            "all arguments of a call count"
        );
    }
}
