//! How peers in Python (Jumpstarter 0.9) differ: all of their quirks, in one place.
//!
//! Quirks that decide what this project does have a function or a name here:
//!
//! - [`is_stream_end`], [`is_datagram_address`] and the methods of [`Implementation`] for
//!   exporters.
//! - [`COMPOSITE_CLIENT`] and [`STORAGE_MUX_CLIENT`], by which their reports name the abilities of
//!   nodes.
//! - For clients, [`write_status`](crate::write_status) sends a driver's own `NotFound` and
//!   `FailedPrecondition` as `UNKNOWN` with the kind beside it. The client in Python raises
//!   `DriverMethodNotImplemented` for the first, and `ExporterNotReady` for the second.
//!
//! Others shape the exporter at the place of the bytes:
//!
//! - Over a Unix socket grpcio (C core) sends the socket's path, percent-encoded, as `:authority`,
//!   which HTTP/2 libraries refuse. The exporter's `authority` module makes it acceptable.
//! - A client whose end mark meets a finished call loses the last data that it received. The
//!   exporter waits for that mark before it ends the stream of an image (`byte_stream`).
//! - The client's `pipe` closes a stream as soon as it has sent. Data that has arrived by then
//!   still reaches the driver, within five seconds (`driver_stream`).
//! - `j power read` reads to the end of the readings. A driver's `read` therefore ends.
//! - An exporter does not end the stream of an image that it has received. The client holds it
//!   until the call is answered (`images`).
//! - grpcio ends a connection with HTTP/2 pings more often than every five minutes
//!   (`too_many_pings`, <https://github.com/grpc/grpc/blob/master/doc/keepalive.md>). The client's
//!   signs of life are therefore calls.
//! - An exporter keeps its last 256 log records until one client has read them. A client's records
//!   may be older than its subscription, and another client does not get them.

use jumpstarter_driver_core::{Error, ErrorKind};

use crate::labels::INTERFACES;
use crate::v1::DriverInstanceReport;

/// The client class of a node that only groups others.
pub const COMPOSITE_CLIENT: &str = "jumpstarter_driver_composite.client.CompositeClient";

/// The client class of storage multiplexers that can flash. Their exporter only writes and reads
/// the medium; the client class switches it between the sides.
pub const STORAGE_MUX_CLIENT: &str = "jumpstarter_driver_opendal.client.StorageMuxFlasherClient";

/// Whether the status of a byte stream is its orderly end. A peer in Python ends its streams with
/// the status `ABORTED` and the message `RouterStream: aclose`.
pub fn is_stream_end(error: &Error) -> bool {
    error.kind() == ErrorKind::Aborted && error.to_string().starts_with("RouterStream: aclose")
}

/// Whether a network with this address carries datagrams. An exporter in Python does not report
/// the framing of a stream; of the drivers in `jumpstarter_driver_network`, those of UDP and
/// WebSockets carry messages.
pub fn is_datagram_address(address: &str) -> bool {
    ["udp://", "ws://", "wss://"].iter().any(|scheme| address.starts_with(scheme))
}

/// Which implementation of the exporter serves a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Implementation {
    /// This project's.
    Rust,
    /// The one in Python.
    Python,
}

impl Implementation {
    /// Returns the implementation that reported a node: the one in Python does not list interfaces.
    pub fn of_node(node: &DriverInstanceReport) -> Self {
        match node.labels.contains_key(INTERFACES) {
            true => Self::Rust,
            false => Self::Python,
        }
    }

    /// Whether it ends an image that it compresses for its client. The one in Python never flushes
    /// its compressor: the file would lack its last part, and no call fails.
    pub fn ends_compressed_dumps(self) -> bool {
        self == Self::Rust
    }

    /// Whether its drivers detect an image's compression. Those in Python decompress only what the
    /// client names.
    pub fn detects_compression(self) -> bool {
        self == Self::Rust
    }

    /// Whether it knows wishes beside the name of an image ([`ImageWishes`](crate::ImageWishes)).
    pub fn knows_wishes(self) -> bool {
        self == Self::Rust
    }

    /// Whether its log holds the progress of images that it fetches or sends itself.
    pub fn logs_transfers(self) -> bool {
        self == Self::Rust
    }

    /// Whether silence means that it is lost. This project's exporter answers `GetStatus` at once
    /// in every state; the one in Python gives no such guarantee.
    pub fn answers_heartbeats(self) -> bool {
        self == Self::Rust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_datagrams() {
        let ended = |text| is_stream_end(&Error::aborted(text));
        assert!(ended("RouterStream: aclose()") && !ended("another one was faster"));
        assert!(is_datagram_address("udp://lab:53") && !is_datagram_address("tcp://lab:22"));
    }
}
