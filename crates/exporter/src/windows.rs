//! How much a client may send before it is read: HTTP/2's flow-control windows, of a connection and
//! of each stream on it.
//!
//! What the windows allow together must fit into the connection's: were it less, streams that
//! nobody reads could use it up, and hold up every call. So the more byte streams there are, the
//! smaller is the window of each. Streams that came one after the other, and were left unread at
//! the window of their time, take `largest * (1 + ln(streams))` at most; hence the part.

use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use tokio::time::Instant;

/// Streams at a time on one connection; a client waits with more.
pub(crate) const MAX_STREAMS: u32 = 1024;
/// The window of a stream, while there are few.
const MAX_STREAM: u32 = 1 << 20;
const MIN_STREAM: u32 = 1 << 10;
/// The window of a connection without an admitted call, or for which there is no memory.
pub(crate) const MIN_CONNECTION: u32 = 4 << 20;
/// What all streams may be given at a time, as a part of the connection's window.
const PART: u32 = 8;
/// Windows are not made larger more often.
const PAUSE: Duration = Duration::from_secs(1);

/// The windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    connection: u32,
    stream: u32,
    changed: Instant,
}

impl Windows {
    /// Those of a connection that begins.
    pub(crate) fn new() -> Self {
        let connection = MIN_CONNECTION;
        Self { connection, stream: stream_window(connection, 1), changed: Instant::now() }
    }

    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// Makes the connection's window larger.
    pub(crate) fn widen(
        &mut self,
        wire: &mut Connection<impl Wire, Bytes>,
        bytes: usize,
        streams: usize,
    ) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min((1 << 31) - 1);
        if bytes > self.connection {
            self.connection = bytes;
            wire.set_target_window_size(bytes);
            self.set(wire, stream_window(bytes, streams));
        }
    }

    /// Makes the streams' windows fit to the number of streams: smaller at once, larger after a
    /// while.
    pub(crate) fn adapt(&mut self, wire: &mut Connection<impl Wire, Bytes>, streams: usize) {
        let wanted = stream_window(self.connection, streams);
        if wanted < self.stream || (wanted > self.stream && self.changed.elapsed() >= PAUSE) {
            self.set(wire, wanted);
        }
    }

    fn set(&mut self, wire: &mut Connection<impl Wire, Bytes>, wanted: u32) {
        // It fails while the client has not acknowledged the change before.
        if wanted != self.stream && wire.set_initial_window_size(wanted).is_ok() {
            self.stream = wanted;
            self.changed = Instant::now();
        }
    }

    /// Waits until the windows may be made larger again; for ever, if they are as large as can be.
    pub(crate) async fn pause(&self) {
        match self.stream < stream_window(self.connection, 1) {
            true => tokio::time::sleep_until(self.changed.max(Instant::now()) + PAUSE).await,
            false => std::future::pending().await,
        }
    }
}

/// What carries HTTP/2.
pub(crate) trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Wire for T {}

fn stream_window(connection: u32, streams: usize) -> u32 {
    let streams = u32::try_from(streams.max(1)).unwrap_or(u32::MAX);
    let each = connection / PART / streams;
    each.checked_ilog2().map_or(MIN_STREAM, |bits| (1 << bits).clamp(MIN_STREAM, MAX_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_leave_unread_one_after_the_other_fits_into_the_connections_window() {
        for connection in [MIN_CONNECTION, 16 << 20, 64 << 20, 1 << 30] {
            let streams = MAX_STREAMS as usize;
            let all: u64 =
                (1..=streams).map(|streams| u64::from(stream_window(connection, streams))).sum();
            assert!(all <= u64::from(connection), "{all} of {connection}");
        }
        assert_eq!(stream_window(64 << 20, 8), MAX_STREAM);
        assert_eq!(stream_window(64 << 20, 1024), 8 << 10);
    }
}
