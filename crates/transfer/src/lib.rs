//! What images need on their way besides bytes: HTTP, where they are fetched from or sent to a URL,
//! and the encodings in which they travel. The exporter and the client both use it.
//!
//! Where images are fetched from and sent to is a matter of trust: `docs/images.md` has the rules.
//!
//! Linking this crate (`use jumpstarter_transfer as _;`) also lets any `ImageSource::url`,
//! `ImageSink::url` and
//! `ImageSink::with_encoding` of this program be read and written in-process.

mod address;
mod answer;
mod connect;
mod decode;
mod download;
mod encode;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod network;
mod pace;
mod proof;
mod proxy;
mod put;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod url;
mod way;

use std::time::Duration;

use jumpstarter_driver_core::image::{ImageSupport, SupportEntry};
use jumpstarter_driver_core::inventory;

pub use decode::decode;
pub use download::{download, watched_download};
pub use encode::encode;
pub use pace::Pace;
pub use upload::upload;

/// A server that sends nothing for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(120);

inventory::submit! { SupportEntry(ImageSupport {
    download: |request| download(request, STALL_LIMIT),
    upload: |request| upload(request, STALL_LIMIT),
    encode,
}) }
