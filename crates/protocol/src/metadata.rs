//! The metadata of calls. Keys that begin with `x_jmp_` are this project's; other implementations
//! ignore them, except those of an image's encoding.

/// The passphrase, with every call.
pub const PASSPHRASE: &str = "x-jumpstarter-passphrase";
/// With a byte stream: its target, a [`StreamTarget`](crate::StreamTarget).
pub const REQUEST: &str = "request";
/// In the answer to a byte stream for an image: the image's name, an
/// [`ImageReference`](crate::ImageReference).
pub const RESOURCE: &str = "resource";
/// Beside [`RESOURCE`]: the encoding of the image, if it is the requested one.
pub const ACCEPT_ENCODING: &str = "x_jmp_accept_encoding";
/// Requested with any value by a client: connect to the driver before answering, and report whether
/// frames are [`BYTES`] or [`DATAGRAMS`]. An error is then the call's own status.
pub const FRAMING: &str = "x_jmp_framing";
/// Frames may be merged and split.
pub const BYTES: &str = "bytes";
/// Each frame is one message.
pub const DATAGRAMS: &str = "datagrams";
/// Requested with any value by a client that only sends: end the stream once the driver has
/// accepted everything, or with the error that prevented it. An exporter that supports it answers
/// with the same key.
pub const ENDS_WHEN_SENT: &str = "x_jmp_ends_when_sent";
/// With the log: which records the client wants, [`HOOKS`] or all of them.
pub const RECORDS: &str = "x_jmp_records";
/// The output of hooks.
pub const HOOKS: &str = "hooks";
/// The field beside the name of an image in a call, with what its client wishes.
pub const WISHES: &str = "x_jmp_wishes";
