//! Jumpstarter's wire protocol, for both ends: no other crate of this project has a string of it.
//!
//! - [`rpc`]: the calls with their paths, requests and answers, which [`v1`] defines; [`metadata`],
//!   [`labels`] and [`fields`] beside them.
//! - [`StreamTarget`] and [`ImageReference`]: the target of a byte stream, and the name of an image
//!   in a call.
//! - [`encode_value`] and [`decode_value`]: the arguments of calls.
//! - [`Incoming`] and [`Outgoing`]: messages on HTTP/2, within the memory of a [`Budget`];
//!   [`Messages`]: those of an answer;
//!   [`grpc`]: the headers around them; [`http2`]: the connections below.
//! - [`write_status`] and [`read_status`]: errors as statuses, and back. [`CallError`] says which
//!   end failed a call.
//! - [`Address`], [`TcpKeepalive`], [`UnixSocket`], [`ClientTls`] and [`ServerTls`]: the
//!   transports.
//! - [`python`]: how peers in Python differ.
//!
//! ```
//! use jumpstarter_protocol::{decode_value, encode_value};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), jumpstarter_protocol::ValueError> {
//! let sent = encode_value(&json!({"port": 8080}))?;
//! assert_eq!(decode_value(sent)?, json!({"port": 8080.0})); // every number travels as a double
//! # Ok(()) }
//! ```

mod address;
mod budget;
mod error;
pub mod grpc;
pub mod http2;
mod keepalive;
mod messages;
pub mod metadata;
pub mod python;
pub mod rpc;
mod status;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod unix_socket;
mod value;
mod wire;

pub use address::Address;
pub use budget::{Budget, Memory};
pub use error::CallError;
pub use keepalive::TcpKeepalive;
pub use messages::Messages;
pub use prost_types::{Duration, FieldMask, Timestamp, Value};
pub use rpc::{Method, Rpc};
pub use status::{read_status, write_status};
pub use stream::{
    ImageReference, ImageWishes, PresignedRequest, StreamTarget, image_handle, resource,
};
#[cfg(feature = "tls")]
pub use tls::{
    CertificateFault, ClientTls, Identity, ServerTls, TlsFailure, TlsFault, TrustedCertificates,
};
pub use transport::Transport;
pub use unix_socket::UnixSocket;
pub use value::{ValueError, decode_arguments, decode_value, encode_value};
pub use wire::{Encoded, Incoming, MessageEncoding, Outgoing, encode};

/// The labels of reports.
pub mod labels {
    /// The import path of the Python client class that drives a node.
    pub const CLIENT: &str = "jumpstarter.dev/client";
    /// A node's key under its parent; on the report itself, the exporter's name.
    pub const NAME: &str = "jumpstarter.dev/name";
    /// The names of a node's interfaces, separated by commas. Exporters in Python do not have this
    /// label.
    pub const INTERFACES: &str = "jumpstarter.dev/interfaces";
    /// The import paths of the base classes of a node's client class, separated by commas: those of
    /// drivers in Python that this project hosts, where the client class alone implies no
    /// interface. Mounts pass it on like any other label.
    pub const CLIENT_BASES: &str = "jumpstarter.dev/client-bases";
}

/// Fields of log records.
pub mod fields {
    /// The path of the called driver; its type has a separate field in the message.
    pub const DRIVER: &str = "driver";
    /// The id of the driver for which the exporter fetches or sends an image. Such a record reports
    /// the progress.
    pub const TRANSFER_DRIVER: &str = "transfer_driver";
    /// The URL of that image, without its query.
    pub const TRANSFER_URL: &str = "transfer_url";
    /// The bytes so far.
    pub const TRANSFER_BYTES: &str = "transfer_bytes";
    /// The total, if it is known.
    pub const TRANSFER_TOTAL: &str = "transfer_total";
    /// Present, with any value, in the last record of a transfer.
    pub const TRANSFER_DONE: &str = "transfer_done";
}

/// The messages and services of package `jumpstarter.v1`, which `proto/` documents.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the .proto files, which hold the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/jumpstarter.v1.rs"));
}

/// The messages and services of package `jumpstarter.client.v1`: what clients ask of a controller.
pub mod client {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated from the .proto files, which hold the documentation"
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/jumpstarter.client.v1.rs"));
    }
}
