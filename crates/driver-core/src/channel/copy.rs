//! Copies between two channels, in both directions.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Channel, ChannelReader, ChannelWriter};
use crate::error::{Error, Result};

/// The bytes that a [`copy_both`] has copied so far; its observers share them.
#[derive(Debug, Default)]
pub struct Counters {
    first_to_second: AtomicU64,
    second_to_first: AtomicU64,
}

impl Counters {
    /// Bytes copied from the first channel to the second.
    pub fn first_to_second(&self) -> u64 {
        self.first_to_second.load(Ordering::Relaxed)
    }

    /// Bytes copied from the second channel to the first.
    pub fn second_to_first(&self) -> u64 {
        self.second_to_first.load(Ordering::Relaxed)
    }
}

/// The bytes that a [`copy_both`] copied until both directions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// From the first channel to the second.
    pub first_to_second_bytes: u64,
    /// From the second channel to the first.
    pub second_to_first_bytes: u64,
}

/// Copies between two channels until both directions have ended.
///
/// The end of one direction is passed on and the other continues, even if a receiver stopped
/// reading; datagrams stay whole. Only the current frame is stored. `counters` grow as bytes pass,
/// so several copies can share them. Cancelling drops both channels.
///
/// # Errors
/// `InvalidArgument` if one channel carries datagrams and the other bytes; otherwise the first
/// error. An error of receiving ends both directions at once, an error of sending only its
/// direction.
pub async fn copy_both(
    first: Channel,
    second: Channel,
    counters: Option<&Counters>,
) -> Result<Copied> {
    if first.framing() != second.framing() {
        let (first, second) = (first.framing(), second.framing());
        return Err(Error::invalid_argument(format!(
            "cannot join a connection of {first:?} to one of {second:?}"
        )));
    }
    let local = Counters::default();
    let counters = counters.unwrap_or(&local);
    let ((mut first_in, mut first_out), (mut second_in, mut second_out)) =
        (first.split(), second.split());
    let (forth, back) = futures_util::future::try_join(
        pump(&mut first_in, &mut second_out, &counters.first_to_second),
        pump(&mut second_in, &mut first_out, &counters.second_to_first),
    )
    .await?;
    Ok(Copied { first_to_second_bytes: forth?, second_to_first_bytes: back? })
}

/// The outer error is from receiving, the inner one from sending.
async fn pump(
    from: &mut ChannelReader,
    to: &mut ChannelWriter,
    counter: &AtomicU64,
) -> Result<Result<u64>> {
    let mut total = 0;
    while let Some(frame) = from.receive().await? {
        let length = frame.len() as u64;
        if let Err(error) = to.send(frame).await {
            return Ok(Err(error));
        }
        counter.fetch_add(length, Ordering::Relaxed);
        total += length;
    }
    Ok(to.finish().await.map(|()| total))
}
