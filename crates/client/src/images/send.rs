//! Sends an image to the exporter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::stream::{self, BoxStream};
use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::image::{Encoding, ImageStream, Meter, Wishes, hex};
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};
use jumpstarter_protocol::ImageWishes;
use ring::digest::{self, SHA256};
use serde_json::Value;
use tokio::sync::watch;

use super::{END_LIMIT, Moved, Transfer, open, remote, transfer};
use crate::remote_driver::RemoteDriver;
use crate::wire::{Frames, MAX_FRAME};

/// The bytes that show an encoding.
const SIGNATURE: usize = 10;

/// Returns the source's name in the call, and its transfer.
///
/// The exporter reads a URL itself, unless this side must see the bytes to report a digest or to
/// detect their encoding, or because an exporter in Python checks no digest. A driver in Python
/// decompresses only if the call names the encoding; other drivers detect it.
pub(super) async fn prepare(
    driver: &RemoteDriver,
    mut source: ImageSource,
    mut answered: watch::Receiver<bool>,
    doing: &str,
) -> Result<(Value, Option<Transfer>)> {
    let knows_wishes = driver.implementation.knows_wishes();
    let wanted = ImageWishes::from_wishes(source.wishes());
    if !wanted.is_empty() && !knows_wishes {
        return Err(Error::unimplemented(
            "this exporter, one in Python, neither reads images back nor uses block maps",
        )
        .with_hint("flash it without `--verify` and with `--no-bmap`"));
    }
    if let Some(request) = source.as_request()
        && !source.wishes().reports_sha256()
        && (knows_wishes || !source.needs_sha256())
        && source.encoding().is_none()
    {
        let request = request.clone();
        let wishes = source.take_wishes();
        let wanted = wanted.with_sha256(wishes.expected_sha256());
        let observers = wishes.observers();
        let (mut name, transfer) =
            remote::prepare(driver, &request, "GET", observers, answered).await?;
        wanted.add_to(&mut name)?;
        return Ok((name, transfer));
    }
    let (name, said, wishes) = (source.name(), source.encoding(), source.take_wishes());
    let opened = source.open().await?;
    let length = opened.length();
    let delivered = Delivered::new(opened, wishes);
    let settled = delivered.settled.clone();
    let (encoding, image) = match said {
        None if !driver.implementation.detects_compression() => detect(delivered).await?,
        said => (said, delivered.boxed()),
    };
    let resource = open(driver, encoding, doing).await?;
    let image = match encoding {
        Some(encoding) if !resource.encoded => jumpstarter_transfer::decode(encoding, image),
        _ => image,
    };
    let connection = &driver.connection;
    let mut sending = Sending {
        doing: format!("{doing}: sending {name} to the exporter at {}", connection.address),
        image,
        frames: resource.frames,
        in_hand: false,
        settled,
        stall_timeout: connection.stall_timeout,
    };
    let messages = resource.messages;
    let mut value = resource.value;
    // An exporter that decodes the stream counts other bytes.
    let length = length.filter(|_| knows_wishes && encoding.is_none());
    wanted.with_length(length).add_to(&mut value)?;
    Ok(transfer(value, async move {
        let is_whole = tokio::select! {
            biased;
            is_whole = sending.send_all() => is_whole?,
            // The exporter does not need what it has not accepted by now.
            _ = answered.wait_for(|answered| *answered) => false,
        };
        Ok(match is_whole {
            true => Moved::Sent(messages),
            false => Moved::Broken(sending.unsettled().await?),
        })
    }))
}

/// Detects the encoding from the first bytes.
async fn detect(
    mut image: Delivered,
) -> Result<(Option<Encoding>, BoxStream<'static, io::Result<Bytes>>)> {
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

/// A transfer to the exporter.
struct Sending {
    doing: String,
    image: BoxStream<'static, io::Result<Bytes>>,
    frames: Frames,
    /// Whether the source has delivered bytes that the exporter has not accepted.
    in_hand: bool,
    /// Whether the digest is handed in or not wanted.
    settled: Arc<AtomicBool>,
    stall_timeout: Duration,
}

impl Sending {
    /// Whether the exporter accepted everything; if not, its answer to the call gives the reason.
    async fn send_all(&mut self) -> Result<bool> {
        let limit = self.stall_timeout;
        while let Some(chunk) = self.image.next().await {
            let mut chunk = chunk.context(&self.doing)?;
            self.in_hand = !chunk.is_empty();
            while !chunk.is_empty() {
                let piece: Bytes = chunk.split_to(chunk.len().min(MAX_FRAME));
                match tokio::time::timeout(limit, self.frames.send(piece)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(false),
                    Err(_) => {
                        let message = format!("{}: it took nothing for {limit:?}", self.doing);
                        return Err(Error::deadline_exceeded(message).with_hint(
                            "check its driver and its disk, or set a longer limit for the connection",
                        ));
                    }
                }
            }
            self.in_hand = false;
        }
        Ok(self.frames.close().await.is_ok())
    }

    /// Checks a successful answer of an exporter that stopped reading early. A requested digest is
    /// known if only the source's end was missing.
    ///
    /// # Errors
    /// The digest differs, or the source fails.
    async fn unsettled(&mut self) -> Result<Option<Error>> {
        let rest = async {
            while !self.in_hand
                && !self.settled.load(Ordering::Relaxed)
                && let Some(chunk) = self.image.next().await
            {
                self.in_hand = !chunk.context(&self.doing)?.is_empty();
            }
            Ok::<_, Error>(())
        };
        // A slower source is not at its end.
        tokio::time::timeout(END_LIMIT, rest).await.unwrap_or(Ok(()))?;
        if self.settled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let message = format!("{}: it finished before it had all of it", self.doing);
        Ok(Some(
            Error::data_loss(message)
                .with_source(Error::data_loss("the SHA-256 of the image was not checked"))
                .with_hint("the device may hold another image now: flash it again"),
        ))
    }
}

/// The source's bytes: counted, hashed if the digest is wanted, and compared with the expected
/// digest before the end.
struct Delivered {
    image: ImageStream,
    meter: Meter,
    digest: Option<digest::Context>,
    wishes: Wishes,
    settled: Arc<AtomicBool>,
}

impl Delivered {
    fn new(image: ImageStream, wishes: Wishes) -> Self {
        let meter = Meter::new(wishes.observers(), image.length());
        let digest = wishes.needs_sha256().then(|| digest::Context::new(&SHA256));
        let settled = Arc::new(AtomicBool::new(digest.is_none()));
        Self { image, meter, digest, wishes, settled }
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(digest) = self.digest.take() {
            self.wishes.settle_sha256(&hex(digest.finish().as_ref()))?;
            self.settled.store(true, Ordering::Relaxed);
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
