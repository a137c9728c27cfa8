//! What images need on their way besides bytes: HTTP, where they are fetched from or sent to a URL,
//! and the encodings in which they travel. The exporter and the client both use it.
//!
//! Where images are fetched from and sent to is a matter of trust: `docs/images.md` has the rules.
//!
//! HTTP is the feature `http`, https with it the feature `tls`, and each encoding one of its own,
//! all on by default.
//!
//! Linking this crate (`use jumpstarter_transfer as _;`) also lets any `ImageSource::url`,
//! `ImageSink::url` and
//! `ImageSink::with_encoding` of this program be read and written in-process.

#[cfg(feature = "http")]
mod address;
#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod connect;
mod decode;
#[cfg(feature = "http")]
mod download;
mod encode;
#[cfg(feature = "http")]
mod exchange;
#[cfg(any(all(test, feature = "tls"), feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "http")]
mod get;
#[cfg(feature = "http")]
mod network;
mod pace;
#[cfg(feature = "http")]
mod proof;
#[cfg(feature = "http")]
mod proxy;
#[cfg(feature = "http")]
mod put;
#[cfg(feature = "http")]
mod resume;
#[cfg(feature = "http")]
mod settings;
#[cfg(feature = "tls")]
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "http", not(feature = "tls")))]
#[path = "without_tls.rs"]
mod tls;
#[cfg(feature = "http")]
mod upload;
#[cfg(feature = "http")]
mod url;
#[cfg(feature = "http")]
mod way;

#[cfg(feature = "http")]
use std::time::Duration;

#[cfg(not(feature = "http"))]
use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::image::{ImageSupport, SupportEntry};
use jumpstarter_driver_core::inventory;

pub use decode::decode;
#[cfg(feature = "http")]
pub use download::{download, watched_download};
pub use encode::encode;
pub use pace::Pace;
#[cfg(feature = "http")]
pub use upload::upload;

/// A server that sends nothing for so long is given up.
#[cfg(feature = "http")]
const STALL_LIMIT: Duration = Duration::from_secs(120);

#[cfg(feature = "http")]
inventory::submit! { SupportEntry(ImageSupport {
    download: |request| download(request, STALL_LIMIT),
    upload: |request| upload(request, STALL_LIMIT),
    encode,
}) }

#[cfg(not(feature = "http"))]
inventory::submit! { SupportEntry(ImageSupport {
    download: |_| Err(without_http()),
    upload: |_| Err(without_http()),
    encode,
}) }

#[cfg(not(feature = "http"))]
fn without_http() -> Error {
    Error::unimplemented("this program was built without HTTP")
        .with_hint("fetch the image first, and name the file; or build with the feature `http`")
}
