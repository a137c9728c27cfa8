//! An image on its way from the exporter.

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::{ImageSink, Result};
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use serde_json::Value;

use super::{Transfer, open, presigned, transfer};
use crate::caller::RemoteCaller;
use crate::channel::is_python_end;
use crate::wire::{Frames, Messages};

/// How the call names the sink, and what fills it. A URL is left to the exporter, unless what is sent there is to be
/// compressed: that exporters do only on their way to a client.
pub(super) async fn prepare(caller: &RemoteCaller, sink: ImageSink) -> Result<(Value, Option<Transfer>)> {
    let encoding = sink.encoding();
    if let Some(request) = sink.as_request()
        && encoding.is_none()
    {
        return Ok((presigned(request, "PUT"), None));
    }
    let resource = open(caller, encoding).await?;
    let sink = if resource.encoded { sink.without_encoding() } else { sink };
    Ok(transfer(resource.value, receive(sink, resource.frames, resource.messages)))
}

/// Receives to the end mark. Of what breaks off the exporter's answer to the call says why.
async fn receive(
    mut sink: ImageSink,
    mut frames: Frames,
    mut messages: Messages<StreamResponse>,
) -> Result<Option<ImageSink>> {
    while let Some(frame) = messages.next().await {
        match frame {
            Ok(frame) => match frame.frame_type() {
                FrameType::Data if !frame.payload.is_empty() => sink.write(frame.payload).await?,
                FrameType::Goaway => break,
                _ => {}
            },
            Err(status) if is_python_end(&status) => break,
            Err(_) => return Ok(None),
        }
    }
    // The exporter waits for this end, too; that it is gone already does no harm.
    drop(frames.close().await);
    Ok(Some(sink))
}
