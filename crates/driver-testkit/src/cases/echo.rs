//! Cases of a `Network` whose peer echoes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jumpstarter_driver_core::{Channel, Framing};

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// The amount that the integrity cases send, in bytes.
const AMOUNT: usize = 1024 * 1024;
const CHUNK: usize = 32 * 1024;
/// More than any chain of sockets buffers: a driver that accepts this much without a reader has no
/// bound.
const UNBOUNDED: usize = 64 * 1024 * 1024;

async fn connect(instance: &Instance) -> Result<Channel, String> {
    instance.doing("connecting to the echo");
    instance.network().connect().await.must("connecting to the echo")
}

/// ECHO-1: a mebibyte comes back as it was sent; datagrams of every size come back whole, one by
/// one.
pub(crate) async fn data_comes_back_whole(instance: &Instance) -> Outcome {
    let channel = connect(instance).await?;
    if channel.framing() == Framing::Datagrams {
        datagrams(instance, channel).await
    } else {
        round_trip(instance, channel, false).await
    }
}

/// ECHO-2: what is on its way when the writing half is finished still arrives, and then the end.
pub(crate) async fn data_outlives_half_close(instance: &Instance) -> Outcome {
    let channel = connect(instance).await?;
    if channel.framing() == Framing::Datagrams {
        return Ok(()); // Datagrams have no end.
    }
    round_trip(instance, channel, true).await
}

/// ECHO-3: a reader that does not read slows the writer down, and nothing is lost by it.
pub(crate) async fn slow_reader_slows_the_writer(instance: &Instance) -> Outcome {
    let channel = connect(instance).await?;
    if channel.framing() == Framing::Datagrams {
        return Ok(()); // Datagrams that nobody reads are lost.
    }
    let (mut reader, mut writer) = channel.split();
    let sent = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicUsize::new(usize::MAX));
    let (counter, limit) = (Arc::clone(&sent), Arc::clone(&stop));
    let mut sending = tokio::spawn(async move {
        let mut at = 0;
        while at < limit.load(Ordering::SeqCst).min(UNBOUNDED) {
            writer.send(bytes_at(at, CHUNK)).await?;
            at += CHUNK;
            counter.store(at, Ordering::SeqCst);
        }
        jumpstarter_driver_core::Result::Ok(writer)
    });
    instance.doing("waiting for the writer to stall");
    let (mut seen, mut unchanged) = (usize::MAX, 0);
    // Not at the first look: all of this process may have been stopped since the last one.
    while unchanged < 3 {
        let now = sent.load(Ordering::SeqCst);
        unchanged = if now == seen { unchanged + 1 } else { 0 };
        seen = now;
        ensure!(seen < UNBOUNDED, "{seen} bytes were taken although nobody reads");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    stop.store(0, Ordering::SeqCst); // The chunk under way is the last one.
    instance.doing("reading what was held up");
    let (mut got, mut total, mut writer) = (0, None, None);
    while total != Some(got) {
        tokio::select! {
            bytes = reader.receive() => {
                let bytes = bytes.must("reading")?;
                let Some(bytes) = bytes else { return Err(format!("after {got} bytes the other side ended")) };
                ensure!(bytes == bytes_at(got, bytes.len()), "other bytes came back after {got}");
                got += bytes.len();
            }
            outcome = &mut sending, if total.is_none() => {
                writer = Some(outcome.map_err(|error| format!("sending panicked: {error}"))?.must("sending")?);
                total = Some(sent.load(Ordering::SeqCst));
            }
        }
    }
    drop(writer); // An earlier drop would have been a half-close.
    Ok(())
}

/// Sends and reads concurrently; with `to_the_end` also reads until the peer's end.
pub(crate) async fn round_trip(instance: &Instance, channel: Channel, to_the_end: bool) -> Outcome {
    let (mut reader, mut writer) = channel.split();
    let sending = tokio::spawn(async move {
        for at in (0..AMOUNT).step_by(CHUNK) {
            writer.send(bytes_at(at, CHUNK)).await?;
        }
        if to_the_end {
            writer.finish().await?;
        }
        Ok(writer)
    });
    let mut got = 0;
    while to_the_end || got < AMOUNT {
        instance.doing(format!("waiting for data, {got} of {AMOUNT} bytes came back"));
        let Some(bytes) = reader.receive().await.must("reading")? else { break };
        ensure!(bytes == bytes_at(got, bytes.len()), "other bytes came back after {got}");
        got += bytes.len();
    }
    ensure!(got == AMOUNT, "{AMOUNT} bytes were sent, {got} came back");
    let writer = sending.await.map_err(|error| format!("sending panicked: {error}"))?;
    writer.must("sending").map(drop)
}

async fn datagrams(instance: &Instance, mut channel: Channel) -> Outcome {
    for size in [1, 2, 511, 512, 1200, 1400] {
        let datagram = bytes_at(size, size);
        instance.doing(format!("waiting for a datagram of {size} bytes"));
        // A datagram that the network drops is sent again.
        let mut back = None;
        while back.is_none() {
            channel.send(datagram.clone()).await.must("sending a datagram")?;
            back = tokio::time::timeout(Duration::from_secs(2), channel.receive()).await.ok();
        }
        let back = back.transpose().must("receiving a datagram")?.flatten();
        ensure!(
            back.as_ref() == Some(&datagram),
            "a datagram of {size} bytes came back as {:?}",
            back.map(|back| back.len())
        );
    }
    Ok(())
}

/// `length` bytes of an endless sequence without a short period.
fn bytes_at(at: usize, length: usize) -> Bytes {
    (at..at + length)
        .map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(17)) as u8)
        .collect()
}
