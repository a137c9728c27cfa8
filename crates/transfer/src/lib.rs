//! What images need on their way besides bytes: HTTP, where they are fetched from or sent to a URL, and the encodings
//! in which they travel. The exporter and the client both use it.
//!
//! Linking this crate (`use jumpstarter_transfer as _;`) also lets any `ImageSource::url`, `ImageSink::url` and
//! `ImageSink::with_encoding` of this program be read and written in-process.

mod client;
mod decode;
mod encode;
mod http;
mod url;

use std::time::Duration;

use jumpstarter_driver_core::image::{ImageSupport, SupportEntry};
use jumpstarter_driver_core::inventory;

pub use decode::decode;
pub use encode::encode;
pub use http::{download, upload};

/// A server that sends nothing for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(120);

inventory::submit! { SupportEntry(ImageSupport {
    download: |request| download(request, STALL_LIMIT),
    upload: |request| upload(request, STALL_LIMIT),
    encode,
}) }
