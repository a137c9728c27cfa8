//! Byte streams to drivers, as channels.
//!
//! On the wire each frame stays one frame. Whether that means anything, an exporter of this project
//! says when it is asked; of one in Python the address of the network tells.

use std::sync::Arc;

use futures_util::StreamExt;
use http::HeaderValue;
use jumpstarter_driver_core::{Channel, Error, Framing, Result};
use jumpstarter_protocol::metadata::{DATAGRAMS, ENDS_WHEN_SENT, FRAMING};
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use serde_json::json;

use crate::caller::RemoteCaller;
use crate::connection::Connection;
use crate::wire::{Frames, Messages};

const PATH: &str = "/jumpstarter.v1.RouterService/Stream";

/// Opens a byte stream; `request` says to what.
pub(crate) async fn open(
    connection: &Connection,
    request: &serde_json::Value,
    doing: &str,
) -> Result<(h2::SendStream<bytes::Bytes>, Messages<StreamResponse>)> {
    open_with(connection, request, doing, None).await
}

async fn open_with(
    connection: &Connection,
    request: &serde_json::Value,
    doing: &str,
    further: Option<&'static str>,
) -> Result<(h2::SendStream<bytes::Bytes>, Messages<StreamResponse>)> {
    let request = HeaderValue::from_str(&request.to_string()).map_err(|_| {
        Error::invalid_argument("the method's name has characters that cannot be sent")
    })?;
    let opening = async {
        let asked = || HeaderValue::from_static("?");
        let mut metadata = vec![("request", request), (FRAMING, asked())];
        metadata.extend(further.map(|further| (further, asked())));
        match connection.open(PATH, metadata, None).await {
            Ok(opened) => Ok(opened),
            Err(status) => Err(connection.explain(status, doing).await),
        }
    };
    connection.in_time(opening, doing).await
}

/// Connects to a driver.
pub(crate) async fn connect(caller: &RemoteCaller, method: &str) -> Result<Channel> {
    let request = json!({"kind": "driver", "uuid": caller.uuid, "method": method});
    let (sending, messages) =
        open(&caller.connection, &request, &format!("opening `{method}`")).await?;
    let framing = match messages.headers.get(FRAMING).map(HeaderValue::as_bytes) {
        Some(framing) if framing == DATAGRAMS.as_bytes() => Framing::Datagrams,
        Some(_) => Framing::Bytes,
        None => caller.framing().await,
    };
    Ok(channel(caller.connection.clone(), sending, messages, framing))
}

/// Connects to the driver `uuid` only to send bytes, and says whether the exporter ends its side
/// once they were taken.
pub(crate) async fn connect_to_send(
    connection: &Arc<Connection>,
    uuid: &str,
    method: &str,
) -> Result<(Channel, bool)> {
    let request = json!({"kind": "driver", "uuid": uuid, "method": method});
    let (sending, messages) =
        open_with(connection, &request, &format!("opening `{method}`"), Some(ENDS_WHEN_SENT))
            .await?;
    let ends = messages.headers.contains_key(ENDS_WHEN_SENT);
    Ok((channel(connection.clone(), sending, messages, Framing::Bytes), ends))
}

fn channel(
    connection: Arc<Connection>,
    sending: h2::SendStream<bytes::Bytes>,
    messages: Messages<StreamResponse>,
    framing: Framing,
) -> Channel {
    let frames = futures_util::stream::unfold(Some(messages), move |messages| {
        let connection = connection.clone();
        async move {
            let mut messages = messages?;
            loop {
                match messages.next().await? {
                    Ok(frame) => match frame.frame_type() {
                        FrameType::Data => return Some((Ok(frame.payload), Some(messages))),
                        FrameType::Goaway => return None,
                        FrameType::RstStream => return Some((Err(reset().into()), None)),
                        FrameType::Ping => {}
                    },
                    Err(status) if is_python_end(&status) => return None,
                    Err(status) => {
                        return Some((Err(connection.reason(status).await.into()), None));
                    }
                }
            }
        }
    });
    Channel::from_parts(framing, frames, Frames::new(sending, framing))
}

fn reset() -> Error {
    Error::new(jumpstarter_driver_core::ErrorKind::Aborted, "the exporter reset the stream")
}

/// An exporter in Python ends its streams so.
pub(crate) fn is_python_end(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Aborted && status.message().starts_with("RouterStream: aclose")
}
