//! One driver of an exporter: calls with values as arguments and answers.

use std::sync::Arc;

use futures_util::StreamExt;
use jumpstarter_driver_core::{
    Error, Framing, InterfaceDescriptor, Result, ValueStream, whole_numbers,
};
use jumpstarter_protocol::python::{Implementation, is_datagram_address};
use jumpstarter_protocol::v1::{DriverCallRequest, StreamingDriverCallRequest};
use jumpstarter_protocol::{Value as Wire, decode_value, encode_value, rpc};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::connection::Connection;

/// A driver of an exporter.
pub(crate) struct RemoteDriver {
    pub(crate) connection: Arc<Connection>,
    pub(crate) uuid: String,
    interfaces: Vec<&'static InterfaceDescriptor>,
    /// The implementation of its exporter.
    pub(crate) implementation: Implementation,
    framing: OnceCell<Framing>,
}

impl RemoteDriver {
    pub(crate) fn new(
        connection: Arc<Connection>,
        uuid: String,
        interfaces: Vec<&'static InterfaceDescriptor>,
        implementation: Implementation,
    ) -> Self {
        Self { connection, uuid, interfaces, implementation, framing: OnceCell::new() }
    }

    /// The framing of the driver's channels if the exporter does not report it: a network's address
    /// shows it, and is asked for once.
    pub(crate) async fn framing(&self) -> Framing {
        if !self.has_any(&["network"]) {
            return Framing::Bytes;
        }
        let ask = || async {
            match self.call("address", &[]).await {
                Ok(Value::String(address)) if is_datagram_address(&address) => Framing::Datagrams,
                _ => Framing::Bytes,
            }
        };
        *self.framing.get_or_init(ask).await
    }

    /// Whether its channels carry bytes unless they carry datagrams. A driver of an unknown kind
    /// may give a meaning to the boundaries between its frames.
    pub(crate) fn is_of_bytes(&self) -> bool {
        self.has_any(&["network", "serial"])
    }

    fn has_any(&self, names: &[&str]) -> bool {
        self.interfaces.iter().any(|interface| names.contains(&interface.name))
    }

    /// The request of a call with one answer.
    pub(crate) fn request(&self, method: &str, arguments: &[Value]) -> Result<DriverCallRequest> {
        Ok(DriverCallRequest {
            uuid: self.uuid.clone(),
            method: method.to_owned(),
            args: encode(arguments)?,
        })
    }

    /// Calls a method with one answer.
    pub(crate) async fn call(&self, method: &str, arguments: &[Value]) -> Result<Value> {
        let request = self.request(method, arguments)?;
        let answer = self.connection.unary::<rpc::DriverCall>(&request, &calling(method)).await?;
        self.decode(answer.result)
    }

    /// Calls a method with many answers.
    pub(crate) async fn stream(
        &self,
        method: &str,
        arguments: &[Value],
    ) -> Result<ValueStream<Value>> {
        let request = StreamingDriverCallRequest {
            uuid: self.uuid.clone(),
            method: method.to_owned(),
            args: encode(arguments)?,
        };
        let doing: Arc<str> = calling(method).into();
        let answers = self
            .connection
            .streaming::<rpc::StreamingDriverCall>(Vec::new(), &request, &doing)
            .await?;
        let connection = self.connection.clone();
        Ok(answers
            .then(move |answer| {
                let (connection, doing) = (connection.clone(), doing.clone());
                async move {
                    match answer {
                        Ok(answer) => decode(&connection, answer.result),
                        Err(error) => Err(connection.explain(error, &doing).await),
                    }
                }
            })
            .boxed())
    }

    /// The value of an answer; a missing one is null. Whole numbers become integers again.
    pub(crate) fn decode(&self, value: Option<Wire>) -> Result<Value> {
        decode(&self.connection, value)
    }
}

/// The context of a call's errors.
pub(crate) fn calling(method: &str) -> String {
    format!("calling `{method}`")
}

fn encode(arguments: &[Value]) -> Result<Vec<Wire>> {
    let encoded = arguments.iter().map(encode_value).collect::<std::result::Result<_, _>>();
    encoded
        .map_err(|error| Error::invalid_argument("an argument cannot be sent").with_source(error))
}

fn decode(connection: &Connection, value: Option<Wire>) -> Result<Value> {
    let decoded = value.map(decode_value).transpose().map_err(|error| {
        let message =
            format!("the exporter at {} answered what cannot be read", connection.address);
        Error::data_loss(message).with_source(error)
    })?;
    Ok(whole_numbers(decoded.unwrap_or(Value::Null)))
}
