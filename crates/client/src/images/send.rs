//! An image on its way to the exporter.

use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::stream::{self, BoxStream};
use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::image::{Encoding, ImageStream, Meter, Wishes};
use jumpstarter_driver_core::{Error, ImageSink, ImageSource, Result};
use jumpstarter_protocol::v1::StreamResponse;
use ring::digest::{self, SHA256};
use serde_json::Value;
use tokio::sync::watch;

use super::{Transfer, open, presigned, transfer};
use crate::caller::RemoteCaller;
use crate::wire::{Frames, MAX_FRAME, Messages};

/// Bytes that tell an encoding.
const SIGNATURE: usize = 10;

/// How the call names the source, and what sends it.
///
/// A URL is left to the exporter, unless this side has to see the bytes to check a digest or to say how they are
/// encoded. A driver in Python decompresses only what it is told about; others look for themselves.
pub(super) async fn prepare(
    caller: &RemoteCaller,
    mut source: ImageSource,
    answered: watch::Receiver<bool>,
) -> Result<(Value, Option<Transfer>)> {
    if let Some(request) = source.as_request()
        && !source.needs_sha256()
        && source.encoding().is_none()
    {
        return Ok((presigned(request, "GET"), None));
    }
    let (name, said, wishes) = (source.name(), source.encoding(), source.take_wishes());
    let delivered = Delivered::new(source.open().await?, wishes);
    let (encoding, image) = match said {
        None if !caller.native => detect(delivered).await?,
        said => (said, delivered.boxed()),
    };
    let resource = open(caller, encoding).await?;
    let image = match encoding {
        Some(encoding) if !resource.encoded => jumpstarter_transfer::decode(encoding, image),
        _ => image,
    };
    let stall_timeout = caller.connection.stall_timeout;
    let sending = send(name, image, resource.frames, resource.messages, answered, stall_timeout);
    Ok(transfer(resource.value, sending))
}

/// Looks at the beginning.
async fn detect(mut image: Delivered) -> Result<(Option<Encoding>, BoxStream<'static, io::Result<Bytes>>)> {
    let mut start = BytesMut::new();
    while start.len() < SIGNATURE
        && let Some(chunk) = image.next().await
    {
        start.extend_from_slice(&chunk?);
    }
    let encoding = Encoding::of_signature(&start);
    let start = (!start.is_empty()).then(|| Ok(start.freeze()));
    Ok((encoding, stream::iter(start).chain(image).boxed()))
}

/// Sends an image, and waits until the exporter needs its stream no more.
async fn send(
    name: String,
    image: BoxStream<'static, io::Result<Bytes>>,
    mut frames: Frames,
    mut messages: Messages<StreamResponse>,
    mut answered: watch::Receiver<bool>,
    stall_timeout: Duration,
) -> Result<Option<ImageSink>> {
    if send_all(&name, image, &mut frames, stall_timeout).await? {
        let ended = async { while let Some(Ok(_)) = messages.next().await {} };
        tokio::select! {
            () = ended => {}
            // Exporters in Python do not end the stream of an image that they have read.
            _ = answered.wait_for(|answered| *answered) => {}
        }
    }
    Ok(None)
}

/// Whether the exporter took everything; if not, its answer to the call says why.
async fn send_all(
    name: &str,
    mut image: BoxStream<'static, io::Result<Bytes>>,
    frames: &mut Frames,
    stall_timeout: Duration,
) -> Result<bool> {
    while let Some(chunk) = image.next().await {
        let mut chunk = chunk?;
        while !chunk.is_empty() {
            let piece: Bytes = chunk.split_to(chunk.len().min(MAX_FRAME));
            match tokio::time::timeout(stall_timeout, frames.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) => {
                    let message = format!("sending {name}: the exporter took nothing for {stall_timeout:?}");
                    return Err(Error::deadline_exceeded(message).with_hint("its driver hangs, or its disk"));
                }
            }
        }
    }
    Ok(frames.close().await.is_ok())
}

/// What the source delivers: counted, hashed where somebody wants the digest, and compared with the expected one before
/// the end.
struct Delivered {
    image: ImageStream,
    meter: Meter,
    digest: Option<digest::Context>,
    wishes: Wishes,
}

impl Delivered {
    fn new(image: ImageStream, wishes: Wishes) -> Self {
        let meter = Meter::new(wishes.observers(), image.length());
        let digest = wishes.needs_sha256().then(|| digest::Context::new(&SHA256));
        Self { image, meter, digest, wishes }
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(digest) = self.digest.take() {
            let mut hex = String::with_capacity(64);
            for byte in digest.finish().as_ref() {
                write!(hex, "{byte:02x}").map_err(io::Error::other)?;
            }
            self.wishes.settle_sha256(&hex)?;
        }
        self.meter.finish();
        Ok(())
    }
}

impl Stream for Delivered {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.image.poll_next_unpin(cx));
        match &item {
            Some(Ok(chunk)) => {
                self.meter.add(chunk.len() as u64);
                if let Some(digest) = &mut self.digest {
                    digest.update(chunk);
                }
            }
            Some(Err(_)) => self.digest = None,
            None => {
                if let Err(error) = self.settle() {
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(item)
    }
}
