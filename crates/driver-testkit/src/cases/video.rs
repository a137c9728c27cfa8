//! Cases of cameras.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::Channel;
use tokio::time::timeout;

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// The beginnings of JPEG and PNG files.
const BEGINNINGS: [&[u8]; 2] = [&[0xff, 0xd8, 0xff], b"\x89PNG\r\n\x1a\n"];
/// How long a picture may take.
const PICTURE_WITHIN: Duration = Duration::from_secs(20);
/// How long a stream may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// The bytes of the beginning of an answer: `HTTP/1.1 200`.
const STATUS: usize = 12;
/// The most bytes before the first picture of a stream.
const MOST_BEFORE: usize = 64 * 1024;

/// VIDEO-1: a snapshot is a JPEG or PNG file in base64, in time.
pub(crate) async fn snapshot_is_a_picture(instance: &Instance) -> Outcome {
    instance.doing("taking a snapshot");
    let taken = timeout(PICTURE_WITHIN, instance.invoke("snapshot", vec![])).await;
    let reply = taken.map_err(|_| format!("no snapshot within {PICTURE_WITHIN:?}"))?;
    let text: String = reply.must("`snapshot`")?.into_value().must("`snapshot`")?;
    let bytes = STANDARD.decode(&text).map_err(|error| format!("a snapshot's base64: {error}"))?;
    ensure!(
        BEGINNINGS.iter().any(|beginning| bytes.starts_with(beginning)),
        "a snapshot of {} bytes is neither a JPEG nor a PNG",
        bytes.len()
    );
    Ok(())
}

/// VIDEO-2: the server behind `connect` answers `stream_path` with a stream, whose first picture
/// comes in time.
pub(crate) async fn stream_begins_with_a_picture(instance: &Instance) -> Outcome {
    stream(instance).await.map(drop)
}

/// VIDEO-3: closing the driver ends its streams.
pub(crate) async fn stream_ends_at_close(instance: &Instance) -> Outcome {
    let mut channel = stream(instance).await?;
    instance.doing("closing during a stream");
    instance.close().await.must("closing during a stream")?;
    instance.doing("waiting for the end of a stream after a close");
    let ended = timeout(END_WITHIN, async { while let Ok(Some(_)) = channel.receive().await {} });
    ended.await.map_err(|_| format!("a stream goes on {END_WITHIN:?} after the close"))
}

/// A stream whose first picture has begun.
async fn stream(instance: &Instance) -> Result<Channel, String> {
    let path = instance.invoke("stream_path", vec![]).await.must("`stream_path`")?;
    let path: String = path.into_value().must("`stream_path`")?;
    instance.doing("connecting to the camera");
    let connected = instance.invoke("connect", vec![]).await.must("`connect`")?;
    let mut channel = connected.into_channel().must("`connect`")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    channel.send(request).await.must("asking for the stream")?;
    instance.doing("waiting for the first picture of a stream");
    let first = timeout(PICTURE_WITHIN, async {
        let mut begun = Vec::new();
        while !has_picture(&begun) {
            match channel.receive().await.must("the stream")? {
                Some(bytes) => begun.extend_from_slice(&bytes),
                None => return Err(format!("the stream ends after {} bytes", begun.len())),
            }
            let is_success = begun.len() < STATUS || &begun[9..STATUS] == b"200";
            ensure!(is_success, "{path} is answered {}", String::from_utf8_lossy(&begun));
            ensure!(begun.len() < MOST_BEFORE, "no picture in {} bytes", begun.len());
        }
        Ok(())
    });
    first.await.map_err(|_| format!("no picture of the stream within {PICTURE_WITHIN:?}"))??;
    Ok(channel)
}

fn has_picture(bytes: &[u8]) -> bool {
    let contains = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    BEGINNINGS.iter().any(|beginning| contains(beginning))
}
