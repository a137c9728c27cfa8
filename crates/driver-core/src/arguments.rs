//! Arguments of a call: positional JSON-like values, and images.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::descriptor::{InterfaceDescriptor, MethodDescriptor};
use crate::error::{Error, Result};
use crate::finite;
use crate::image::{ImageSink, ImageSource};

/// One argument.
#[derive(Debug)]
#[non_exhaustive]
pub enum Argument {
    /// A JSON-like value; null stands for "not given".
    Value(Value),
    /// An image to read.
    Source(ImageSource),
    /// A destination for an image to write.
    Sink(ImageSink),
}

/// The last parameter of a method that takes any number of arguments: `words: Rest<String>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest<T>(pub Vec<T>);

/// The positional arguments of one call.
#[derive(Debug, Default)]
pub struct Arguments(Vec<Argument>);

impl Arguments {
    /// An empty list of arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a value.
    ///
    /// # Errors
    /// `InvalidArgument` if the value has no JSON form (NaN, infinities, keys that are not text).
    pub fn push_value(&mut self, value: &impl Serialize) -> Result<()> {
        let value = finite::to_json(value).map_err(|error| {
            Error::invalid_argument("the value cannot be sent").with_source(error)
        })?;
        self.0.push(Argument::Value(value));
        Ok(())
    }

    /// Appends values, one argument each.
    ///
    /// # Errors
    /// As [`Arguments::push_value`].
    pub fn push_rest<T: Serialize>(&mut self, values: &Rest<T>) -> Result<()> {
        values.0.iter().try_for_each(|value| self.push_value(value))
    }

    /// Appends an image to read.
    pub fn push_source(&mut self, source: ImageSource) {
        self.0.push(Argument::Source(source));
    }

    /// Appends a destination to write an image to.
    pub fn push_sink(&mut self, sink: ImageSink) {
        self.0.push(Argument::Sink(sink));
    }

    /// The list of arguments, for an adapter to another transport.
    pub fn into_inner(self) -> Vec<Argument> {
        self.0
    }

    /// Starts decoding for a method with `count` parameters.
    ///
    /// # Errors
    /// `InvalidArgument` if there are more arguments than parameters.
    #[doc(hidden)]
    pub fn decoder(
        self,
        interface: &'static InterfaceDescriptor,
        method: &str,
        count: usize,
    ) -> Result<Decoder> {
        let method = interface
            .method(method)
            .ok_or_else(|| crate::descriptor::unknown_method(interface, method))?;
        let given = self.0.len();
        let mut surplus = self.0.iter().skip(count);
        let is_null = |argument: &Argument| matches!(argument, Argument::Value(Value::Null));
        if !method.is_variadic() && !surplus.all(is_null) {
            let message = format!("`{}` takes {count} argument(s), {given} given", method.name);
            return Err(Error::invalid_argument(message)
                .with_hint(format!("its form is {}", method.signature())));
        }
        Ok(Decoder { method, position: 0, rest: self.0.into_iter() })
    }
}

impl FromIterator<Value> for Arguments {
    fn from_iter<T: IntoIterator<Item = Value>>(values: T) -> Self {
        Self(values.into_iter().map(Argument::Value).collect())
    }
}

impl FromIterator<Argument> for Arguments {
    fn from_iter<T: IntoIterator<Item = Argument>>(arguments: T) -> Self {
        Self(arguments.into_iter().collect())
    }
}

/// Takes the arguments of a call one by one; its errors name the parameter.
#[doc(hidden)]
#[derive(Debug)]
pub struct Decoder {
    method: &'static MethodDescriptor,
    position: usize,
    rest: std::vec::IntoIter<Argument>,
}

impl Decoder {
    fn wrong(&self, why: &str) -> Error {
        let parameter = self.method.parameter(self.position - 1);
        let name = parameter.map_or("?", |parameter| parameter.name);
        let message =
            format!("argument {} (`{name}`) of `{}`: {why}", self.position, self.method.name);
        Error::invalid_argument(message)
            .with_hint(format!("its form is {}", self.method.signature()))
    }

    /// "a whole number from 0 to 255", for the parameter that was decoded last.
    fn range(&self) -> Option<String> {
        let schema = self.method.parameter(self.position - 1)?.value?.schema();
        if schema.get("type")? != "integer" {
            return None;
        }
        let limit = |name| schema.get(name).and_then(Value::as_i64);
        Some(match (limit("minimum"), limit("maximum")) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            (Some(least), None) => format!("a whole number, at least {least}"),
            _ => "a whole number".to_owned(),
        })
    }

    fn next(&mut self) -> Argument {
        self.position += 1;
        self.rest.next().unwrap_or(Argument::Value(Value::Null))
    }

    /// The next argument, a value.
    #[doc(hidden)]
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.next() {
            Argument::Value(value) => {
                let (missing, number) = (value.is_null(), value.as_f64());
                serde_json::from_value(whole_numbers(value)).map_err(|error| {
                    match (missing, number.zip(self.range())) {
                        (true, _) => self.wrong("it is missing"),
                        (_, Some((number, range))) => {
                            self.wrong(&format!("expected {range}, found {number}"))
                        }
                        _ => self.wrong(&error.to_string()),
                    }
                })
            }
            Argument::Source(_) | Argument::Sink(_) => {
                Err(self.wrong("expected a value, not an image"))
            }
        }
    }

    /// All further arguments, values.
    #[doc(hidden)]
    pub fn rest<T: DeserializeOwned>(&mut self) -> Result<Rest<T>> {
        (0..self.rest.len()).map(|_| self.value()).collect::<Result<_>>().map(Rest)
    }

    /// The next argument, an image to read.
    #[doc(hidden)]
    pub fn source(&mut self) -> Result<ImageSource> {
        match self.next() {
            Argument::Source(source) => Ok(source),
            Argument::Value(Value::Null) => Err(self.wrong("the image to read is missing")),
            _ => Err(self.wrong("expected an image to read from")),
        }
    }

    /// The next argument, an image to write.
    #[doc(hidden)]
    pub fn sink(&mut self) -> Result<ImageSink> {
        match self.next() {
            Argument::Sink(sink) => Ok(sink),
            Argument::Value(Value::Null) => {
                Err(self.wrong("the place to write the image to is missing"))
            }
            _ => Err(self.wrong("expected a place to write an image to")),
        }
    }
}

/// Turns whole floats into integers: on the wire every number is a double, and `5.0` must become a
/// valid `u16`.
pub fn whole_numbers(value: Value) -> Value {
    // 2^53: above it a double does not represent every integer
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(double) if double.fract() == 0.0 && double.abs() <= EXACT => {
                Value::Number(Number::from(double as i64))
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(whole_numbers).collect()),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect()
        }
        other => other,
    }
}
