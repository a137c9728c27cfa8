//! Receives an image from the exporter.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::{Error, ImageSink, Result, ResultExt};
use jumpstarter_protocol::python::is_stream_end;
use jumpstarter_protocol::v1::{FrameType, StreamResponse};
use jumpstarter_protocol::{CallError, Messages};
use serde_json::Value;
use tokio::sync::watch;

use super::{Moved, Transfer, open, remote, transfer};
use crate::remote_driver::RemoteDriver;
use crate::wire::Frames;

/// Returns the sink's name in the call, and its transfer. The exporter writes to a URL itself,
/// unless the image is to be compressed: exporters compress only for clients.
pub(super) async fn prepare(
    driver: &RemoteDriver,
    mut sink: ImageSink,
    answered: watch::Receiver<bool>,
    doing: &str,
) -> Result<(Value, Option<Transfer>)> {
    let encoding = sink.encoding();
    if let Some(request) = sink.as_request()
        && encoding.is_none()
    {
        return remote::prepare(driver, request, "PUT", sink.observers(), answered).await;
    }
    // An unusable destination is refused before the exporter reads anything.
    sink.open().await.context(doing)?;
    let asked = encoding.filter(|_| driver.implementation.ends_compressed_dumps());
    let resource = open(driver, asked, doing).await?;
    let sink = if resource.encoded { sink.without_encoding() } else { sink };
    let connection = &driver.connection;
    let patience = Patience {
        doing: format!("{doing}: receiving the image from the exporter at {}", connection.address),
        answered,
        image_timeout: connection.image_timeout,
        stall_timeout: connection.stall_timeout,
    };
    Ok(transfer(resource.value, receive(sink, resource.frames, resource.messages, patience)))
}

/// Receives until the end mark. If the image breaks off, the call's answer gives the reason, if
/// there is one.
async fn receive(
    mut sink: ImageSink,
    mut frames: Frames,
    mut messages: Messages<StreamResponse>,
    mut patience: Patience,
) -> Result<Moved> {
    let mut received_bytes = 0;
    loop {
        let frame = tokio::select! {
            biased;
            frame = messages.next() => frame,
            error = patience.end(received_bytes > 0) => return Err(error),
        };
        match frame {
            Some(Ok(frame)) => match frame.frame_type() {
                FrameType::Data if !frame.payload.is_empty() => {
                    received_bytes += frame.payload.len() as u64;
                    sink.write(frame.payload).await?;
                }
                FrameType::Goaway => break,
                FrameType::RstStream => return Ok(patience.broken(received_bytes)),
                FrameType::Data | FrameType::Ping => {}
            },
            Some(Err(CallError::Answer(error))) if is_stream_end(&error) => break,
            Some(Err(_)) | None => return Ok(patience.broken(received_bytes)),
        }
    }
    // The exporter waits for this end, too; a lost one does no harm.
    drop(frames.close().await);
    Ok(Moved::Received(sink))
}

/// The limits for a silent exporter.
struct Patience {
    doing: String,
    answered: watch::Receiver<bool>,
    image_timeout: Duration,
    stall_timeout: Duration,
}

impl Patience {
    /// Waits until the exporter was silent for too long. Before it `began` it may have much to do,
    /// unless the call is answered.
    async fn end(&mut self, began: bool) -> Error {
        if !began {
            let answered = self.answered.wait_for(|answered| *answered);
            if tokio::time::timeout(self.image_timeout, answered).await.is_err() {
                return self.error(self.image_timeout);
            }
        }
        tokio::time::sleep(self.stall_timeout).await;
        self.error(self.stall_timeout)
    }

    fn error(&self, limit: Duration) -> Error {
        let message = format!("{}: it sent nothing for {limit:?}", self.doing);
        Error::deadline_exceeded(message)
            .with_hint("check its driver and its disk, or set a longer limit for the connection")
    }

    fn broken(&self, received_bytes: u64) -> Moved {
        let message = format!("{}: it broke off after {received_bytes} bytes", self.doing);
        Moved::Broken(Some(
            Error::data_loss(message).with_hint("dump it again; the exporter's log may say why"),
        ))
    }
}
