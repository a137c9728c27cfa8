//! The transfer of images: HTTP, for URLs and registries, and the encodings on the wire. The
//! exporter and the client both use it.
//!
//! `docs/images.md` has the rules which servers are trusted.
//!
//! `SmallRequest` is for drivers of devices with a web interface, and `Authorities` (the feature
//! `trust`) for drivers that secure connections themselves.
//!
//! HTTP is the feature `http`, https with it the feature `tls`, and each encoding has a feature,
//! all on by default.
//!
//! Linking this crate (`use jumpstarter_transfer as _;`) also makes `ImageSource::url`,
//! `ImageSink::url` and `ImageSink::with_encoding` work for local devices of this program.

#[cfg(feature = "http")]
mod address;
#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod basic;
#[cfg(feature = "http")]
mod cache;
#[cfg(feature = "http")]
mod check;
#[cfg(feature = "http")]
mod connect;
mod decode;
#[cfg(feature = "http")]
mod download;
mod encode;
#[cfg(feature = "http")]
mod exchange;
#[cfg(feature = "http")]
mod framing;
#[cfg(any(all(test, feature = "tls"), feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "http")]
mod get;
#[cfg(feature = "http")]
mod network;
#[cfg(feature = "http")]
mod oci;
mod pace;
#[cfg(feature = "http")]
mod proof;
#[cfg(feature = "http")]
mod proxy;
#[cfg(feature = "http")]
mod put;
#[cfg(feature = "http")]
mod raw;
#[cfg(feature = "http")]
mod request;
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
#[cfg(feature = "trust")]
mod trust;
#[cfg(feature = "tls")]
mod trust_any;
#[cfg(feature = "http")]
mod upload;
#[cfg(feature = "http")]
mod url;
#[cfg(feature = "http")]
mod way;

#[cfg(feature = "http")]
use std::time::Duration;

use jumpstarter_codec::Compression;
#[cfg(not(feature = "http"))]
use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::image::{ImageSupport, SupportEntry};
use jumpstarter_driver_core::inventory;

#[cfg(feature = "http")]
pub use connect::{addresses, connect};
pub use decode::decode;
#[cfg(feature = "http")]
pub use download::{download, watched_download};
pub use encode::encode;
pub use pace::Pace;
#[cfg(feature = "http")]
pub use request::{SmallAnswer, SmallRequest, StreamedAnswer};
#[cfg(feature = "trust")]
pub use trust::Authorities;
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
    least_length,
}) }

#[cfg(not(feature = "http"))]
inventory::submit! { SupportEntry(ImageSupport {
    download: |_| Err(without_http()),
    upload: |_| Err(without_http()),
    encode,
    least_length,
}) }

fn least_length(start: &[u8], length: u64) -> Option<u64> {
    match Compression::detect(start) {
        Compression::Raw => Some(length),
        compression => compression.least_length(start),
    }
}

#[cfg(not(feature = "http"))]
fn without_http() -> Error {
    Error::unimplemented("this program was built without HTTP")
        .with_hint("fetch the image first, and name the file; or build with the feature `http`")
}
