//! Byte streams to drivers, as channels.
//!
//! On the wire each frame stays one frame. Whether that means anything, an exporter of this project says when it is
//! asked; of one in Python the address of the network tells.

use futures_util::StreamExt;
use http::HeaderValue;
use jumpstarter_driver_core::{Channel, Error, Framing, Result};
use jumpstarter_protocol::metadata::{DATAGRAMS, FRAMING};
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
    let request = HeaderValue::from_str(&request.to_string())
        .map_err(|_| Error::invalid_argument("the method's name has characters that cannot be sent"))?;
    let opening = async {
        let metadata = [("request", request), (FRAMING, HeaderValue::from_static("?"))];
        match connection.open(PATH, metadata.into(), None).await {
            Ok(opened) => Ok(opened),
            Err(status) => Err(connection.explain(status, doing).await),
        }
    };
    connection.in_time(opening, doing).await
}

/// Connects to a driver.
pub(crate) async fn connect(caller: &RemoteCaller, method: &str) -> Result<Channel> {
    let request = json!({"kind": "driver", "uuid": caller.uuid, "method": method});
    let (sending, messages) = open(&caller.connection, &request, &format!("opening `{method}`")).await?;
    let framing = match messages.headers.get(FRAMING).map(HeaderValue::as_bytes) {
        Some(framing) if framing == DATAGRAMS.as_bytes() => Framing::Datagrams,
        Some(_) => Framing::Bytes,
        None => caller.framing().await,
    };
    let connection = caller.connection.clone();
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
                    Err(status) => return Some((Err(connection.reason(status).await.into()), None)),
                }
            }
        }
    });
    Ok(Channel::from_parts(framing, frames, Frames::new(sending, framing)))
}

fn reset() -> Error {
    Error::new(jumpstarter_driver_core::ErrorKind::Aborted, "the exporter reset the stream")
}

/// An exporter in Python ends its streams so.
pub(crate) fn is_python_end(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Aborted && status.message().starts_with("RouterStream: aclose")
}
