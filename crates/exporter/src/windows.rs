//! The flow-control windows of HTTP/2, of a connection and of each stream on it: how much a client
//! may send before it is read.
//!
//! The streams' windows together must fit into the connection's: otherwise unread streams could use
//! it up, and block every call. So each stream's window shrinks with the number of byte streams.
//! Streams that came one after the other, and were left unread at the window of their time, take at
//! most `largest * (1 + ln(streams))`; hence the part.

use std::time::Duration;

use jumpstarter_protocol::http2::ServerConnection;
use tokio::time::Instant;

/// The most streams of one connection; a client waits with more.
pub(crate) const MAX_STREAMS: u32 = 1024;
/// The window of a stream of a client on this machine, while there are few streams.
pub(crate) const NEAR_STREAM: u32 = 1 << 20;
/// That of a client at a distance: no more is sent in one round trip.
pub(crate) const FAR_STREAM: u32 = 4 << 20;
const MIN_STREAM: u32 = 1 << 10;
/// The window of a connection without an admitted call, or without memory.
pub(crate) const MIN_CONNECTION: u32 = 4 << 20;
/// The part of the connection's window that all streams may have together.
const PART: u32 = 8;
/// The shortest time between two enlargements.
const PAUSE: Duration = Duration::from_secs(1);

/// The windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    connection: u32,
    stream: u32,
    /// The largest window of a stream.
    largest: u32,
    changed: Instant,
}

impl Windows {
    /// The windows of a new connection, whose streams have at most the window `largest`.
    pub(crate) fn new(largest: u32) -> Self {
        let connection = MIN_CONNECTION;
        let stream = stream_window(connection, 1, largest);
        Self { connection, stream, largest, changed: Instant::now() }
    }

    fn wanted(&self, streams: usize) -> u32 {
        stream_window(self.connection, streams, self.largest)
    }

    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// Enlarges the connection's window.
    pub(crate) fn widen(
        &mut self,
        wire: &mut ServerConnection<impl Wire>,
        bytes: usize,
        streams: usize,
    ) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min((1 << 31) - 1);
        if bytes > self.connection {
            self.connection = bytes;
            wire.set_connection_window(bytes);
            self.set(wire, self.wanted(streams));
        }
    }

    /// Adapts the streams' windows to their number: shrinks at once, grows after a while.
    pub(crate) fn adapt(&mut self, wire: &mut ServerConnection<impl Wire>, streams: usize) {
        let wanted = self.wanted(streams);
        if wanted < self.stream || (wanted > self.stream && self.changed.elapsed() >= PAUSE) {
            self.set(wire, wanted);
        }
    }

    fn set(&mut self, wire: &mut ServerConnection<impl Wire>, wanted: u32) {
        // It fails while the client has not acknowledged the previous change.
        if wanted != self.stream && wire.set_stream_window(wanted) {
            self.stream = wanted;
            self.changed = Instant::now();
        }
    }

    /// Waits until the windows may grow again; for ever if they are at their maximum.
    pub(crate) async fn pause(&self) {
        match self.stream < self.wanted(1) {
            true => tokio::time::sleep_until(self.changed.max(Instant::now()) + PAUSE).await,
            false => std::future::pending().await,
        }
    }
}

/// A transport of HTTP/2.
pub(crate) trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Wire for T {}

fn stream_window(connection: u32, streams: usize, largest: u32) -> u32 {
    let streams = u32::try_from(streams.max(1)).unwrap_or(u32::MAX);
    let each = connection / PART / streams;
    each.checked_ilog2().map_or(MIN_STREAM, |bits| (1 << bits).clamp(MIN_STREAM, largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_leave_unread_one_after_the_other_fits_into_the_connections_window() {
        for connection in [MIN_CONNECTION, 16 << 20, 64 << 20, 1 << 30] {
            let streams = MAX_STREAMS as usize;
            let each = |streams| u64::from(stream_window(connection, streams, FAR_STREAM));
            let all: u64 = (1..=streams).map(each).sum();
            assert!(all <= u64::from(connection), "{all} of {connection}");
        }
        assert_eq!(stream_window(64 << 20, 2, FAR_STREAM), FAR_STREAM);
        assert_eq!(stream_window(64 << 20, 2, NEAR_STREAM), NEAR_STREAM);
        assert_eq!(stream_window(64 << 20, 1024, FAR_STREAM), 8 << 10);
    }
}
