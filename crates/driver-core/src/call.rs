//! Calls: the way to a driver, and the answers.

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::channel::Channel;
use crate::descriptor::{InterfaceDescriptor, MethodKind};
use crate::error::{Error, Result};
use crate::finite;
use crate::image::Encoding;

/// The stream of a streaming method. Dropping it ends the stream.
pub type ValueStream<T> = BoxStream<'static, Result<T>>;

/// The answer of a call.
#[non_exhaustive]
pub enum Reply {
    /// One value; null for "no result".
    Value(Value),
    /// A stream of values.
    Stream(ValueStream<Value>),
    /// A byte channel.
    Channel(Channel),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Channel(_) => f.write_str("Channel"),
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Value> {
    finite::to_json(value)
        .map_err(|error| Error::internal("the result cannot be sent").with_source(error))
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T> {
    // Drivers in Python may answer with a text where no answer is expected.
    if size_of::<T>() == 0
        && let Ok(nothing) = serde_json::from_value(Value::Null)
    {
        return Ok(nothing);
    }
    serde_json::from_value(value).map_err(|error| {
        Error::internal("the answer is not of the expected form").with_source(error)
    })
}

impl Reply {
    /// Encodes a value.
    ///
    /// # Errors
    /// `Internal` if the value has no JSON form (NaN, infinities, keys that are not text).
    pub fn value(value: impl Serialize) -> Result<Self> {
        encode(&value).map(Self::Value)
    }

    /// Encodes a stream, item by item; an item without a JSON form is an error in the stream.
    pub fn stream<T: Serialize + Send + 'static>(stream: ValueStream<T>) -> Self {
        Self::Stream(stream.map(|item| item.and_then(|item| encode(&item))).boxed())
    }

    /// Decodes a value.
    ///
    /// # Errors
    /// `Internal` if the answer is of another kind or type.
    pub fn into_value<T: DeserializeOwned>(self) -> Result<T> {
        match self {
            Self::Value(value) => decode(value),
            other => Err(other.unexpected("a value")),
        }
    }

    /// Decodes a stream.
    ///
    /// # Errors
    /// `Internal` if the answer is of another kind; an item of another type is an error in the
    /// stream.
    pub fn into_stream<T: DeserializeOwned + 'static>(self) -> Result<ValueStream<T>> {
        match self {
            Self::Stream(stream) => Ok(stream.map(|item| item.and_then(decode)).boxed()),
            other => Err(other.unexpected("a stream")),
        }
    }

    /// Returns the channel.
    ///
    /// # Errors
    /// `Internal` if the answer is of another kind.
    pub fn into_channel(self) -> Result<Channel> {
        match self {
            Self::Channel(channel) => Ok(channel),
            other => Err(other.unexpected("a channel")),
        }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        Error::internal(format!("expected {wanted}, the answer is {self:?}"))
    }
}

/// The way to one driver, local or remote: what a proxy calls through.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Calls a method. Dropping the future cancels the call.
    ///
    /// # Errors
    /// `NotFound` for a method that the driver lacks, `InvalidArgument` for wrong arguments, else
    /// the driver's errors.
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply>;

    /// Calls a method of `interface`, as a proxy does. The wire names only the method, so the
    /// default is [`Caller::invoke`].
    ///
    /// # Errors
    /// As [`Caller::invoke`].
    fn invoke_interface<'a>(
        &'a self,
        interface: &'static InterfaceDescriptor,
        method: &'a str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> BoxFuture<'a, Result<Reply>> {
        let _ = interface;
        self.invoke(method, kind, arguments)
    }

    /// Whether the driver is elsewhere, so that an exporter passes on to it what its own clients
    /// send: as it is, without understanding it.
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// Opens the stream of an image for a call that follows, which names it with the resource's
    /// handle: for an exporter that passes the image on to a driver that [is
    /// elsewhere](Caller::is_elsewhere).
    ///
    /// # Errors
    /// `Unimplemented` for a driver that is here, else the other end's.
    async fn open_resource(&self, encoding: Option<Encoding>) -> Result<Resource> {
        let _ = encoding;
        Err(Error::unimplemented("the driver is not elsewhere: it takes images as arguments"))
    }
}

/// The stream of an image, open at an exporter.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resource {
    /// How a call names it, as the exporter says.
    pub handle: Value,
    /// Whether the exporter takes, or gives, the image encoded as was asked for.
    pub is_encoded: bool,
    /// The image. Dropping its writer without [finishing](crate::ChannelWriter::finish) breaks the
    /// image off.
    pub channel: Channel,
}

impl Resource {
    /// A stream that an exporter has opened.
    pub fn new(handle: Value, is_encoded: bool, channel: Channel) -> Self {
        Self { handle, is_encoded, channel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_expects_is_no_error() {
        let said = || Reply::Value(Value::from("Power ON command sent successfully"));
        said().into_value::<()>().unwrap();
        assert!(said().into_value::<Option<u32>>().is_err());
    }
}
