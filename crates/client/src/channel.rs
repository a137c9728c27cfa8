//! Byte streams to drivers, as channels.
//!
//! On the wire each frame stays one frame, unless it waits for an exporter in Python that has a
//! network or a serial port there. An exporter of this project reports whether the boundaries carry
//! meaning; for one in Python the network's address shows it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::HeaderValue;
use jumpstarter_driver_core::{Channel, Error, Framing, Result};
use jumpstarter_protocol::metadata::{DATAGRAMS, ENDS_WHEN_SENT, FRAMING, REQUEST};
use jumpstarter_protocol::python::{Implementation, is_stream_end};
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use jumpstarter_protocol::{CallError, Messages, Outgoing, StreamTarget, rpc};

use crate::connection::Connection;
use crate::remote_driver::RemoteDriver;
use crate::wire::Frames;

/// Opens a byte stream to `target`.
pub(crate) async fn open(
    connection: &Connection,
    target: &StreamTarget,
    doing: &str,
) -> Result<(Outgoing, Messages<StreamResponse>)> {
    open_with(connection, target, doing, None).await
}

async fn open_with(
    connection: &Connection,
    target: &StreamTarget,
    doing: &str,
    further: Option<&'static str>,
) -> Result<(Outgoing, Messages<StreamResponse>)> {
    let target = target.to_header()?;
    let opening = async {
        let asked = || HeaderValue::from_static("?");
        let mut metadata = vec![(REQUEST, target), (FRAMING, asked())];
        metadata.extend(further.map(|further| (further, asked())));
        match connection.open::<rpc::Stream>(metadata, None).await {
            Ok(opened) => Ok(opened),
            Err(error) => Err(connection.explain(error, doing).await),
        }
    };
    connection.in_time(opening, doing).await
}

/// Connects to a driver.
pub(crate) async fn connect(driver: &RemoteDriver, method: &str) -> Result<Channel> {
    let target = StreamTarget::Driver { uuid: driver.uuid.clone(), method: method.to_owned() };
    let (sending, messages) =
        open(&driver.connection, &target, &format!("opening `{method}`")).await?;
    // A message costs Python much, whatever its size.
    let merges = driver.implementation == Implementation::Python && driver.is_of_bytes();
    let framing = match messages.headers().get(FRAMING).map(HeaderValue::as_bytes) {
        Some(framing) if framing == DATAGRAMS.as_bytes() => Framing::Datagrams,
        Some(_) => Framing::Bytes,
        None => driver.framing().await,
    };
    let frames = match Frames::new(sending, framing) {
        frames if merges && framing == Framing::Bytes => frames.merging(),
        frames => frames,
    };
    Ok(channel(driver.connection.clone(), messages, frames, framing))
}

/// Connects to the driver `uuid` only to send bytes. Returns whether the exporter ends its side
/// once it has accepted all of them.
pub(crate) async fn connect_to_send(
    connection: &Arc<Connection>,
    uuid: &str,
    method: &str,
) -> Result<(Channel, bool)> {
    let target = StreamTarget::Driver { uuid: uuid.to_owned(), method: method.to_owned() };
    let (sending, messages) =
        open_with(connection, &target, &format!("opening `{method}`"), Some(ENDS_WHEN_SENT))
            .await?;
    let ends = messages.headers().contains_key(ENDS_WHEN_SENT);
    let frames = Frames::new(sending, Framing::Bytes);
    Ok((channel(connection.clone(), messages, frames, Framing::Bytes), ends))
}

fn channel(
    connection: Arc<Connection>,
    messages: Messages<StreamResponse>,
    frames: Frames,
    framing: Framing,
) -> Channel {
    Channel::from_parts(framing, received(connection, messages), frames)
}

/// The payloads until the end mark.
pub(crate) fn received(
    connection: Arc<Connection>,
    messages: Messages<StreamResponse>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::unfold(Some(messages), move |messages| {
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
                    Err(CallError::Answer(error)) if is_stream_end(&error) => return None,
                    Err(error) => {
                        return Some((Err(connection.reason(error).await.into()), None));
                    }
                }
            }
        }
    })
}

fn reset() -> Error {
    Error::aborted("the exporter reset the stream")
}
