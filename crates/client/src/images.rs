//! Calls with images: each image has a separate stream beside the call.
//!
//! Each side's failure ends the other side. If the call fails the streams are broken off. If an
//! image cannot be read, or is not the expected one, its stream breaks off before its end, so
//! nothing is replaced. A successful answer alone is not enough: a dump must have arrived
//! completely, and a wanted digest of a flash must be known.

mod receive;
mod remote;
mod send;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{
    Argument, Channel, Error, ErrorKind, Framing, ImageSink, Resource, Result,
};
use jumpstarter_protocol::metadata::ACCEPT_ENCODING;
use jumpstarter_protocol::v1::StreamResponse;
use jumpstarter_protocol::{Messages, StreamTarget, resource, rpc};
use serde_json::Value;
use tokio::sync::watch;

use crate::channel;
use crate::remote_driver::{RemoteDriver, calling};
use crate::wire::Frames;

/// How long the exporter may take to end the call after an image broke off.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The transfer of one image.
type Transfer = BoxFuture<'static, Result<Moved>>;

/// How a transfer ended on this side.
enum Moved {
    /// Everything was sent. The stream stays open until the call is answered: exporters in Python
    /// do not end it.
    Sent(Messages<StreamResponse>),
    /// Everything arrived.
    Received(ImageSink),
    /// The exporter wants no more of it, or has no more. This error counts if the call's answer
    /// gives no reason; `None` if nothing is missing.
    Broken(Option<Error>),
}

/// Calls a method with images. Dropping the future breaks them off and cancels the call.
pub(crate) async fn call(
    driver: &RemoteDriver,
    method: &str,
    arguments: Vec<Argument>,
) -> Result<Value> {
    let connection = &driver.connection;
    let doing = calling(method);
    let mut values = Vec::with_capacity(arguments.len());
    let mut transfers: Vec<Transfer> = Vec::new();
    let (answered, is_answered) = watch::channel(false);
    for argument in arguments {
        let (value, transfer) = match argument {
            Argument::Value(value) => (value, None),
            Argument::Source(source) => {
                send::prepare(driver, source, is_answered.clone(), &doing).await?
            }
            Argument::Sink(sink) => {
                receive::prepare(driver, sink, is_answered.clone(), &doing).await?
            }
            _ => return Err(Error::unimplemented("this client cannot send such an argument")),
        };
        values.push(value);
        transfers.extend(transfer);
    }
    let request = driver.request(method, &values)?;
    let answering = connection.unlimited::<rpc::DriverCall>(&request, &doing);
    let transferring = futures_util::future::try_join_all(transfers);
    tokio::pin!(answering, transferring);
    let (answer, moved) = tokio::select! {
        biased;
        answer = &mut answering => {
            let answer = answer?;
            answered.send_replace(true);
            // The dump may still be arriving.
            (answer, transferring.await?)
        }
        moved = &mut transferring => match moved {
            Ok(moved) => {
                let is_broken = moved.iter().any(|moved| matches!(moved, Moved::Broken(Some(_))));
                let limit = if is_broken { connection.stall_timeout } else { connection.image_timeout };
                (connection.within(limit, answering, &doing).await?, moved)
            }
            // The exporter notices the broken image. Its error about that is ignored, and one that
            // hangs sends none.
            Err(failure) => {
                if failure.kind() != ErrorKind::DeadlineExceeded {
                    drop(tokio::time::timeout(END_LIMIT, answering).await);
                }
                return Err(failure);
            }
        },
    };
    let mut sinks = Vec::new();
    for moved in moved {
        match moved {
            Moved::Received(sink) => sinks.push(sink),
            Moved::Broken(Some(error)) => return Err(error),
            Moved::Broken(None) => {}
            Moved::Sent(stream) => drop(stream),
        }
    }
    for sink in sinks {
        sink.finish().await?;
    }
    driver.decode(answer.result)
}

/// The stream of an image, and its name in the call.
struct Opened {
    value: Value,
    frames: Frames,
    messages: Messages<StreamResponse>,
    /// Whether the exporter accepts, or sends, the image with the requested encoding.
    encoded: bool,
}

/// Opens the stream of an encoded image. An exporter that does not know the encoding gets it
/// decoded.
async fn open(driver: &RemoteDriver, encoding: Option<Encoding>, doing: &str) -> Result<Opened> {
    let resource = open_once(driver, encoding, doing).await?;
    match encoding.is_some() && !resource.encoded {
        true => open_once(driver, None, doing).await,
        false => Ok(resource),
    }
}

async fn open_once(
    driver: &RemoteDriver,
    encoding: Option<Encoding>,
    doing: &str,
) -> Result<Opened> {
    let uuid = driver.uuid.clone();
    let target = StreamTarget::Resource { uuid, x_jmp_content_encoding: encoding };
    let (sending, messages) = channel::open(&driver.connection, &target, doing).await?;
    let value = resource(messages.headers()).ok_or_else(|| {
        Error::data_loss("the exporter opened a stream for an image without naming it")
    })?;
    let accepted = messages.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let encoded = encoding.is_some_and(|encoding| {
        accepted.is_some_and(|name| name.trim_matches('"') == encoding.name())
    });
    Ok(Opened { value, frames: Frames::whole_or_nothing(sending), messages, encoded })
}

/// Opens the stream of an image that somebody else sends or receives, whatever the exporter says
/// of its encoding.
pub(crate) async fn open_to_pass_on(
    driver: &RemoteDriver,
    encoding: Option<Encoding>,
) -> Result<Resource> {
    let opened = open_once(driver, encoding, "opening the stream of an image").await?;
    let frames = channel::received(driver.connection.clone(), opened.messages);
    let channel = Channel::from_parts(Framing::Bytes, frames, opened.frames);
    Ok(Resource::new(opened.value, opened.encoded, channel))
}

/// Makes the transfer of an image for `call`.
fn transfer(
    value: Value,
    transfer: impl Future<Output = Result<Moved>> + Send + 'static,
) -> (Value, Option<Transfer>) {
    (value, Some(transfer.boxed()))
}
