//! Calling drivers.

use futures_util::StreamExt;
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Arguments, Node, Resource};
use jumpstarter_driver_core::{Channel, Error, Result, ValueStream};
use jumpstarter_driver_core::{MethodKind, Reply};
use jumpstarter_protocol::{Value as Wire, decode_arguments, encode_value};
use serde_json::Value;

use crate::Session;
use crate::layers::{Guarded, Layer, driver_call};

impl Session {
    /// Calls a method.
    pub(crate) async fn call(
        &self,
        uuid: &str,
        method: &str,
        arguments: Vec<Wire>,
    ) -> Result<Option<Wire>> {
        let node = self.node(uuid);
        let mut layers = driver_call(self, node.as_ref().ok().copied(), method);
        let call = async {
            match self.invoke(node?, method, MethodKind::Unary, arguments).await? {
                Reply::Value(value) => encode(&value),
                other => encode(&other.into_value()?),
            }
        };
        layers.around(call).await
    }

    /// Calls a method that answers with a stream of values.
    pub(crate) async fn stream(
        &self,
        uuid: &str,
        method: &str,
        arguments: Vec<Wire>,
    ) -> Result<ValueStream<Option<Wire>>> {
        let node = self.node(uuid);
        let mut layers = driver_call(self, node.as_ref().ok().copied(), method);
        let call = async {
            match self.invoke(node?, method, MethodKind::Stream, arguments).await? {
                Reply::Stream(values) => Ok(values),
                other => other.into_stream(),
            }
        };
        let values = layers.around(call).await?;
        let values = values.map(|value| value.and_then(|value| encode(&value)));
        Ok(layers.along(values).boxed())
    }

    /// Opens a channel.
    pub(crate) async fn connect(&self, uuid: &str, method: &str) -> Result<Channel> {
        let node = self.node(uuid);
        let mut layers = driver_call(self, node.as_ref().ok().copied(), method);
        let call = async {
            self.invoke(node?, method, MethodKind::Channel, Vec::new()).await?.into_channel()
        };
        layers.around(call).await
    }

    /// Whether the driver with that id is at another exporter.
    pub(crate) fn is_elsewhere(&self, uuid: &str) -> bool {
        self.node(uuid).is_ok_and(|node| node.caller().is_elsewhere())
    }

    /// Opens the stream of an image at the exporter that has the driver.
    pub(crate) async fn open_resource(
        &self,
        uuid: &str,
        encoding: Option<Encoding>,
    ) -> Result<Resource> {
        let node = self.node(uuid)?;
        Guarded::new(self).around(node.caller().open_resource(encoding)).await
    }

    /// Resets every driver.
    pub(crate) async fn reset_called(&self) -> Result<()> {
        driver_call(self, None, "reset").around(self.device().reset()).await
    }

    /// Reports a call that never reached a driver.
    pub(crate) async fn refused(&self, method: &str, error: Error) -> Error {
        let refusal = async { Result::<Error>::Err(error) };
        driver_call(self, None, method).around(refusal).await.unwrap_or_else(|error| error)
    }

    async fn invoke(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Wire>,
    ) -> Result<Reply> {
        let arguments = self.take_arguments(node, method, kind, arguments)?;
        node.caller().invoke(method, kind, arguments).await
    }

    /// The arguments of a call. Their resources are taken over only for a method that exists: a
    /// refused call can be repeated.
    fn take_arguments(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Wire>,
    ) -> Result<Arguments> {
        let descriptor = node.interfaces().iter().find_map(|interface| interface.method(method));
        match descriptor {
            // The other end decides, and has the resources that they name.
            _ if node.caller().is_elsewhere() => Ok(decode(arguments)?.into_iter().collect()),
            Some(descriptor) if descriptor.kind != kind => Ok(Arguments::new()),
            // The driver's answer shows which methods exist.
            None if node.interfaces_known() => Ok(Arguments::new()),
            descriptor => self.arguments(node, method, descriptor, decode(arguments)?),
        }
    }
}

fn decode(arguments: Vec<Wire>) -> Result<Vec<Value>> {
    decode_arguments(arguments)
        .map_err(|error| Error::invalid_argument("the arguments cannot be read").with_source(error))
}

fn encode(value: &Value) -> Result<Option<Wire>> {
    encode_value(value)
        .map(Some)
        .map_err(|error| Error::internal("the answer cannot be sent").with_source(error))
}
