//! The way to one driver over the connection.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Error, Framing, InterfaceDescriptor, MethodKind, Reply, Result,
    ValueStream, whole_numbers,
};
use jumpstarter_protocol::v1::{
    DriverCallRequest, DriverCallResponse, StreamingDriverCallRequest, StreamingDriverCallResponse,
};
use jumpstarter_protocol::{Value as Wire, decode_value, encode_value};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::connection::Connection;
use crate::{channel, images};

/// Calls one driver of an exporter.
pub(crate) struct RemoteCaller {
    pub(crate) connection: Arc<Connection>,
    pub(crate) uuid: String,
    interfaces: Vec<&'static InterfaceDescriptor>,
    /// Whether its exporter is of this project.
    pub(crate) native: bool,
    framing: OnceCell<Framing>,
}

impl RemoteCaller {
    pub(crate) fn new(
        connection: Arc<Connection>,
        uuid: String,
        interfaces: Vec<&'static InterfaceDescriptor>,
        native: bool,
    ) -> Self {
        Self { connection, uuid, interfaces, native, framing: OnceCell::new() }
    }

    /// Whether the channels of a driver in Python carry datagrams: told by the address of a
    /// network, asked for once.
    pub(crate) async fn framing(&self) -> Framing {
        if !self.interfaces.iter().any(|interface| interface.name == "network") {
            return Framing::Bytes;
        }
        let ask = || async {
            let address: Option<String> = self
                .invoke("address", MethodKind::Unary, Arguments::new())
                .await
                .and_then(Reply::into_value)
                .ok();
            let datagrams = ["udp://", "ws://", "wss://"];
            match address
                .is_some_and(|address| datagrams.iter().any(|scheme| address.starts_with(scheme)))
            {
                true => Framing::Datagrams,
                false => Framing::Bytes,
            }
        };
        *self.framing.get_or_init(ask).await
    }

    /// The request of a unary call.
    pub(crate) fn request(&self, method: &str, arguments: &[Value]) -> Result<DriverCallRequest> {
        Ok(DriverCallRequest {
            uuid: self.uuid.clone(),
            method: method.to_owned(),
            args: encode(arguments)?,
        })
    }

    async fn stream(&self, method: &str, arguments: &[Value]) -> Result<ValueStream<Value>> {
        let request = StreamingDriverCallRequest {
            uuid: self.uuid.clone(),
            method: method.to_owned(),
            args: encode(arguments)?,
        };
        let path = "/jumpstarter.v1.ExporterService/StreamingDriverCall";
        let doing: Arc<str> = calling(method).into();
        let answers = self
            .connection
            .streaming::<StreamingDriverCallResponse>(path, &request, &doing)
            .await?;
        let connection = self.connection.clone();
        Ok(answers
            .then(move |answer| {
                let (connection, doing) = (connection.clone(), doing.clone());
                async move {
                    match answer {
                        Ok(answer) => decode(&connection, answer.result),
                        Err(status) => Err(connection.explain(status, &doing).await),
                    }
                }
            })
            .boxed())
    }
}

#[async_trait]
impl Caller for RemoteCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        let arguments = arguments.into_inner();
        let has_images = !arguments.iter().all(|argument| matches!(argument, Argument::Value(_)));
        match kind {
            MethodKind::Unary if has_images => {
                images::call(self, method, arguments).await.map(Reply::Value)
            }
            MethodKind::Unary => {
                let request = self.request(method, &values(arguments)?)?;
                let path = "/jumpstarter.v1.ExporterService/DriverCall";
                let answer: DriverCallResponse =
                    self.connection.unary(path, &request, &calling(method)).await?;
                decode(&self.connection, answer.result).map(Reply::Value)
            }
            MethodKind::Stream => self.stream(method, &values(arguments)?).await.map(Reply::Stream),
            MethodKind::Channel if arguments.is_empty() => {
                channel::connect(self, method).await.map(Reply::Channel)
            }
            MethodKind::Channel => Err(Error::invalid_argument(format!(
                "`{method}` opens a channel, which takes no arguments"
            ))),
            other => {
                Err(Error::unimplemented(format!("this client cannot call {other:?} methods")))
            }
        }
    }
}

/// What is being done, for errors.
pub(crate) fn calling(method: &str) -> String {
    format!("calling `{method}`")
}

fn values(arguments: Vec<Argument>) -> Result<Vec<Value>> {
    let value = |argument| match argument {
        Argument::Value(value) => Ok(value),
        _ => Err(Error::unimplemented("an image travels with calls that answer once only")),
    };
    arguments.into_iter().map(value).collect()
}

fn encode(arguments: &[Value]) -> Result<Vec<Wire>> {
    let encoded = arguments.iter().map(encode_value).collect::<std::result::Result<_, _>>();
    encoded
        .map_err(|error| Error::invalid_argument("an argument cannot be sent").with_source(error))
}

/// The value of an answer; none is null. Whole numbers are integers again.
pub(crate) fn decode(connection: &Connection, value: Option<Wire>) -> Result<Value> {
    let decoded = value.map(decode_value).transpose().map_err(|error| {
        let message =
            format!("the exporter at {} answered what cannot be read", connection.address);
        Error::data_loss(message).with_source(error)
    })?;
    Ok(whole_numbers(decoded.unwrap_or(Value::Null)))
}
