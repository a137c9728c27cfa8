//! The metadata of calls. Keys that begin with `x_jmp_` are this project's; other implementations
//! ignore them, apart from those of an image's encoding.

/// The passphrase, with every call.
pub const PASSPHRASE: &str = "x-jumpstarter-passphrase";
/// With a byte stream: what it leads to, a [`StreamTarget`](crate::StreamTarget).
pub const REQUEST: &str = "request";
/// In the answer to a byte stream for an image: the image's name, an
/// [`ImageReference`](crate::ImageReference).
pub const RESOURCE: &str = "resource";
/// Beside [`RESOURCE`]: how the image is encoded, if it is as the client asked.
pub const ACCEPT_ENCODING: &str = "x_jmp_accept_encoding";
/// Asked for with any value by a client: connect to the driver before answering, and say
/// whether frames are [`BYTES`] or [`DATAGRAMS`]. An error is then the call's own status.
pub const FRAMING: &str = "x_jmp_framing";
/// Frames may be merged and split.
pub const BYTES: &str = "bytes";
/// Each frame is one message.
pub const DATAGRAMS: &str = "datagrams";
/// Asked for with any value by a client that only sends: end the stream once the driver has
/// taken everything, or with the error that kept it from that. An exporter that does so answers
/// with the same key.
pub const ENDS_WHEN_SENT: &str = "x_jmp_ends_when_sent";
