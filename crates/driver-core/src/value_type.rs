//! The type of a value in a call: its JSON schema, and what is derived from it.

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The types of arguments and results: they have a JSON form and a schema of it.
///
/// Implemented for every type that implements `Serialize`, `Deserialize` and `JsonSchema`; put
/// [`#[data]`](macro@crate::data) on your types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an argument nor a result of a method",
    label = "it has no JSON form with a schema",
    note = "put `#[data]` on its definition, or derive `Serialize`, `Deserialize` and `JsonSchema`"
)]
pub trait CallValue: Serialize + DeserializeOwned + JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + JsonSchema> CallValue for T {}

/// The type of an argument or a result.
#[derive(Clone, Copy)]
pub struct ValueType {
    schema: fn(&mut SchemaGenerator) -> Schema,
    subschema: fn(&mut SchemaGenerator) -> Schema,
    typed: fn(Value) -> Value,
}

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum JsonType {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number. A schema that admits it admits [`JsonType::Integer`] too.
    Number,
    /// A JSON string, not a number or a word without quotes.
    Text,
    /// A list.
    Array,
    /// A mapping.
    Object,
}

impl JsonType {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Null,
        Self::Boolean,
        Self::Integer,
        Self::Number,
        Self::Text,
        Self::Array,
        Self::Object,
    ];

    fn named(name: &str) -> &'static [Self] {
        match name {
            "null" => &[Self::Null],
            "boolean" => &[Self::Boolean],
            "integer" => &[Self::Integer],
            "number" => &[Self::Integer, Self::Number],
            "string" => &[Self::Text],
            "array" => &[Self::Array],
            "object" => &[Self::Object],
            _ => &[],
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

impl ValueType {
    /// The type `T`.
    pub const fn of<T: CallValue>() -> Self {
        Self {
            schema: T::json_schema,
            subschema: SchemaGenerator::subschema_for::<T>,
            typed: typed::<T>,
        }
    }

    /// Its JSON schema (draft 2020-12), with the definitions that it refers to.
    pub fn schema(&self) -> Schema {
        let mut generator = SchemaGenerator::default();
        let mut schema = (self.schema)(&mut generator);
        let definitions = generator.take_definitions(true);
        if !definitions.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(definitions));
        }
        schema
    }

    /// Its JSON schema as a part of another one: definitions go to the generator.
    pub fn subschema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.subschema)(generator)
    }

    /// Gives a value the numbers of this type: on the wire whole numbers have no fraction, whatever
    /// their type. A value that does not fit the type stays unchanged.
    pub fn typed(&self, value: Value) -> Value {
        (self.typed)(value)
    }

    /// The kinds of JSON values that this type admits.
    pub fn json_types(&self) -> BTreeSet<JsonType> {
        let schema = self.schema().to_value();
        Reader::new(&schema).types(&schema, 0)
    }

    /// Every value that it admits, if the schema lists them; `None` for any other type.
    pub fn choices(&self) -> Option<Vec<Value>> {
        let schema = self.schema().to_value();
        let reader = Reader::new(&schema);
        reader.choices(&schema, 0)
    }
}

impl fmt::Debug for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueType({})", self.schema().to_value())
    }
}

/// As its schema.
impl Serialize for ValueType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.schema().serialize(serializer)
    }
}

/// Reads a schema whose references lead into its own definitions.
struct Reader<'a>(Option<&'a Map<String, Value>>);

/// The longest chain of references: a type may contain itself.
const MAX_DEPTH: usize = 16;

impl<'a> Reader<'a> {
    fn new(root: &'a Value) -> Self {
        Self(root.get("$defs").and_then(Value::as_object))
    }

    fn referred(&self, schema: &Map<String, Value>) -> Option<&'a Value> {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        self.0?.get(name)
    }

    fn types(&self, schema: &Value, depth: usize) -> BTreeSet<JsonType> {
        let all = || BTreeSet::from(JsonType::ALL);
        let Some(fields) = schema.as_object() else {
            return if schema == &Value::Bool(false) { BTreeSet::new() } else { all() };
        };
        let mut found = all();
        if depth == MAX_DEPTH {
            return found;
        }
        let mut admit = |types: BTreeSet<JsonType>| found.retain(|one| types.contains(one));
        if let Some(referred) = self.referred(fields) {
            admit(self.types(referred, depth + 1));
        }
        match fields.get("type") {
            Some(Value::String(name)) => admit(JsonType::named(name).iter().copied().collect()),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                admit(names.flat_map(JsonType::named).copied().collect());
            }
            _ => {}
        }
        if let Some(Value::Array(values)) = fields.get("enum") {
            admit(values.iter().map(JsonType::of).collect());
        }
        if let Some(value) = fields.get("const") {
            admit([JsonType::of(value)].into());
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(parts)) = fields.get(key) {
                admit(parts.iter().flat_map(|part| self.types(part, depth + 1)).collect());
            }
        }
        for part in fields.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            admit(self.types(part, depth + 1));
        }
        found
    }

    fn choices(&self, schema: &Value, depth: usize) -> Option<Vec<Value>> {
        let fields = schema.as_object().filter(|_| depth < MAX_DEPTH)?;
        if let Some(referred) = self.referred(fields) {
            return self.choices(referred, depth + 1);
        }
        if let Some(value) = fields.get("const") {
            return Some(vec![value.clone()]);
        }
        if fields.get("type").and_then(Value::as_str) == Some("null") {
            return Some(vec![Value::Null]);
        }
        if let Some(Value::Array(values)) = fields.get("enum") {
            return Some(values.clone());
        }
        let parts = ["anyOf", "oneOf"].iter().find_map(|key| fields.get(*key)?.as_array())?;
        let choices: Option<Vec<_>> =
            parts.iter().map(|part| self.choices(part, depth + 1)).collect();
        choices.map(|choices| choices.into_iter().flatten().collect())
    }
}

/// Implements [`ValueType::typed`] for values of `T`.
fn typed<T: Serialize + DeserializeOwned>(mut value: Value) -> Value {
    if let Ok(Ok(typed)) = T::deserialize(&value).map(serde_json::to_value) {
        take_fractions(&mut value, &typed);
    }
    value
}

fn take_fractions(value: &mut Value, typed: &Value) {
    match (value, typed) {
        (Value::Number(number), Value::Number(typed)) if typed.is_f64() => number.clone_from(typed),
        (Value::Array(items), Value::Array(typed)) => {
            items.iter_mut().zip(typed).for_each(|(item, typed)| take_fractions(item, typed));
        }
        (Value::Object(fields), Value::Object(typed)) => {
            for (name, field) in fields {
                if let Some(typed) = typed.get(name) {
                    take_fractions(field, typed);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use serde_json::json;

    /// How bright.
    #[data]
    #[derive(Debug)]
    #[serde(rename_all = "lowercase")]
    enum Level {
        /// A little.
        Low,
        /// Much.
        High,
    }

    /// A tree of lamps.
    #[data]
    struct Lamps {
        /// How bright they are.
        level: Level,
        /// Those behind.
        #[serde(default)]
        behind: Vec<Lamps>,
    }

    #[track_caller]
    fn check<T: CallValue>(expected: &[JsonType]) {
        let types = ValueType::of::<T>().json_types();
        assert_eq!(types, expected.iter().copied().collect(), "{:?}", ValueType::of::<T>());
    }

    #[test]
    fn what_a_value_can_be() {
        use JsonType::*;
        check::<()>(&[Null]);
        check::<bool>(&[Boolean]);
        check::<u8>(&[Integer]);
        check::<f32>(&[Integer, Number]);
        check::<String>(&[Text]);
        check::<Option<String>>(&[Null, Text]);
        check::<Vec<u8>>(&[Array]);
        check::<ByteSize>(&[Integer, Text]);
        check::<Level>(&[Text]);
        check::<Option<Level>>(&[Null, Text]);
        check::<Lamps>(&[Object]);
        check::<Value>(&JsonType::ALL);
    }

    #[test]
    fn the_choices_of_an_enumeration() {
        assert_eq!(ValueType::of::<Level>().choices(), Some(vec![json!("low"), json!("high")]));
        let optional = ValueType::of::<Option<Level>>().choices().unwrap();
        assert_eq!(optional.len(), 3, "{optional:?}");
        assert_eq!(ValueType::of::<String>().choices(), None);
        assert_eq!(ValueType::of::<Lamps>().choices(), None);
    }

    #[test]
    fn a_schema_stands_alone() {
        let schema = ValueType::of::<Lamps>().schema().to_value();
        assert_eq!(schema["description"], "A tree of lamps.");
        assert_eq!(schema["properties"]["level"]["$ref"], "#/$defs/Level");
        assert!(schema["$defs"]["Level"]["oneOf"].is_array(), "{schema}");
        references_resolve(&schema, &schema);
    }

    fn references_resolve(root: &Value, schema: &Value) {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            assert!(root.pointer(&reference[1..]).is_some(), "{reference} in {root}");
        }
        match schema {
            Value::Object(fields) => {
                fields.values().for_each(|part| references_resolve(root, part));
            }
            Value::Array(parts) => {
                parts.iter().for_each(|part| references_resolve(root, part));
            }
            _ => {}
        }
    }

    #[test]
    fn values_take_the_numbers_of_their_type() {
        #[data]
        struct Odd {
            ratio: f64,
            count: u32,
            many: Vec<(f32, i8)>,
            left_out: Option<f64>,
        }
        let typed = |value| ValueType::of::<Odd>().typed(value);
        let sent = json!({"ratio": 2, "count": 3, "many": [[0, 1], [1.5, 2]], "further": [1]});
        let expected =
            json!({"ratio": 2.0, "count": 3, "many": [[0.0, 1], [1.5, 2]], "further": [1]});
        assert_eq!(typed(sent).to_string(), expected.to_string());
        let strange = json!({"ratio": "high", "count": 3});
        assert_eq!(typed(strange.clone()), strange, "what does not fit stays as it is");
    }
}
