//! Sends and receives on a connection as a program would: everything, up to a pattern, so many
//! bytes.

use std::time::Duration;

use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use tokio::time::{Instant, timeout_at};

/// The most bytes that are received while waiting for a pattern, or for the end.
const LIMIT: usize = 64 * 1024 * 1024;
/// How much of the received data an error quotes, from the end.
const QUOTED: usize = 200;

/// A connection for a conversation.
///
/// Received data that was not requested yet is kept, even after a failed or cancelled wait: a
/// caller may continue after a deadline.
#[derive(Debug)]
pub struct Conversation {
    channel: Channel,
    received: Vec<u8>,
}

impl Conversation {
    /// Connects to `network`.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub async fn connect(network: &dyn Network) -> Result<Self> {
        network.connect().await.map(Self::new)
    }

    /// Talks over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, received: Vec::new() }
    }

    /// Returns the connection, and the received data that was not requested.
    pub fn into_parts(self) -> (Channel, Vec<u8>) {
        (self.channel, self.received)
    }

    /// Sends everything, waiting while the other side is slow.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke.
    pub async fn send_all(&mut self, data: impl AsRef<[u8]>) -> Result<()> {
        self.channel.send(data.as_ref().to_vec()).await
    }

    /// Ends the sending direction: the other side sees the end, and may still answer.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke.
    pub async fn finish(&mut self) -> Result<()> {
        self.channel.finish().await
    }

    /// Receives up to and including `pattern`.
    ///
    /// # Errors
    /// `DeadlineExceeded` after `within`; `DataLoss` if the connection ends first;
    /// `ResourceExhausted` if 64 MiB do not contain it. Each quotes the last received data.
    pub async fn receive_until(
        &mut self,
        pattern: impl AsRef<[u8]>,
        within: Duration,
    ) -> Result<Vec<u8>> {
        let pattern = pattern.as_ref();
        if pattern.is_empty() {
            return Err(Error::invalid_argument("an empty pattern matches everywhere"));
        }
        let deadline = deadline_after(within);
        let mut searched = 0;
        loop {
            let found = self.received[searched..]
                .windows(pattern.len())
                .position(|window| window == pattern);
            if let Some(at) = found {
                return Ok(self.take(searched + at + pattern.len()));
            }
            searched = self.received.len().saturating_sub(pattern.len() - 1);
            let wanted = || format!("waiting {within:?} for `{}`", pattern.escape_ascii());
            if !self.more(deadline).await.with_context(wanted)? {
                return Err(self.ended().context(wanted()));
            }
        }
    }

    /// Receives exactly `length` bytes.
    ///
    /// # Errors
    /// `DeadlineExceeded` after `within`; `DataLoss` if the connection ends first.
    pub async fn receive_exact(&mut self, length: usize, within: Duration) -> Result<Vec<u8>> {
        let deadline = deadline_after(within);
        while self.received.len() < length {
            let wanted = || format!("waiting {within:?} for {length} bytes");
            if !self.more(deadline).await.with_context(wanted)? {
                return Err(self.ended().context(wanted()));
            }
        }
        Ok(self.take(length))
    }

    /// Receives everything until the other side ends.
    ///
    /// # Errors
    /// `DeadlineExceeded` after `within`; `ResourceExhausted` after 64 MiB; `Unavailable` if the
    /// connection broke.
    pub async fn receive_to_end(&mut self, within: Duration) -> Result<Vec<u8>> {
        let deadline = deadline_after(within);
        while self
            .more(deadline)
            .await
            .with_context(|| format!("waiting {within:?} for the end"))?
        {}
        Ok(self.take(self.received.len()))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.received.split_off(length);
        std::mem::replace(&mut self.received, rest)
    }

    /// Receives a frame; false at the end.
    async fn more(&mut self, deadline: Instant) -> Result<bool> {
        if self.received.len() >= LIMIT {
            return Err(Error::resource_exhausted(format!("{LIMIT} bytes came; {}", self.quote())));
        }
        match timeout_at(deadline, self.channel.receive()).await {
            Ok(frame) => Ok(frame?.map(|frame| self.received.extend_from_slice(&frame)).is_some()),
            Err(_) => Err(Error::deadline_exceeded(format!("it did not come; {}", self.quote()))),
        }
    }

    fn ended(&self) -> Error {
        Error::data_loss(format!("the connection ended first; {}", self.quote()))
    }

    fn quote(&self) -> String {
        match self.received.split_at(self.received.len().saturating_sub(QUOTED)) {
            ([], []) => "nothing was received".to_owned(),
            ([], all) => format!("received: `{}`", all.escape_ascii()),
            (_, last) => format!("received last: `{}`", last.escape_ascii()),
        }
    }
}
