//! Images at URLs. A linked crate reads and writes them: this one has neither HTTP nor codecs.

use std::fmt;
use std::pin::Pin;

use tokio::io::AsyncWrite;

use super::encoding::Encoding;
use super::source::ImageSource;
use crate::error::{Error, Result};

/// An image at an `http` or `https` URL, read with GET or written with PUT; or at an `oci` URL, in
/// a registry of container images, which is read only.
///
/// For a remote device the exporter makes the request, so the URL must be reachable from there; for
/// a local one this program makes it. URL and headers may hold secrets: `Debug` and `Display` show
/// the URL without its query, and no header.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageRequest {
    url: String,
    headers: Vec<(String, String)>,
    is_checked: bool,
    sha256: Option<String>,
}

impl ImageRequest {
    /// A request without headers.
    ///
    /// # Errors
    /// `InvalidArgument` for anything but an `http`, `https` or `oci` URL.
    pub fn new(url: impl Into<String>) -> Result<Self> {
        let url = url.into();
        match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("http" | "https" | "oci") => {
                Ok(Self { url, headers: Vec::new(), is_checked: false, sha256: None })
            }
            _ => Err(Error::invalid_argument(
                "an image's URL begins with http://, https:// or oci://",
            )),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Marks that the receiver compares the SHA-256 with an expected one, so a truncated answer is
    /// noticed.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.is_checked = true;
        self
    }

    /// Requires the image to have this SHA-256, 64 lower-case hexadecimal digits: the download
    /// compares it.
    #[must_use]
    pub fn with_sha256(mut self, hex: impl Into<String>) -> Self {
        self.sha256 = Some(hex.into());
        self
    }

    /// The SHA-256 that the image must have.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// Whether a digest detects a truncated answer.
    pub fn is_checked(&self) -> bool {
        self.is_checked || self.sha256.is_some()
    }

    /// The complete URL, with its query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers in the order in which they were added; they may hold secrets.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

impl fmt::Display for ImageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for ImageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageRequest({self})")
    }
}

/// A writer that may move between threads.
pub type BoxWriter = Pin<Box<dyn AsyncWrite + Send>>;

/// The functions of this program that read and write images at URLs, and encode them.
#[derive(Clone, Copy)]
pub struct ImageSupport {
    /// Makes an image that is fetched when it is read.
    pub download: fn(ImageRequest) -> Result<ImageSource>,
    /// Makes a writer whose shutdown ends the upload.
    pub upload: fn(ImageRequest) -> Result<BoxWriter>,
    /// Makes a writer that encodes; its shutdown writes the end and shuts the inner one down.
    pub encode: fn(Encoding, BoxWriter) -> BoxWriter,
    /// Returns the least length of a decompressed image, by the first bytes of its file and the
    /// file's length; `None` if they do not show it.
    pub least_length: fn(&[u8], u64) -> Option<u64>,
}

/// An [`ImageSupport`] that is linked into this program, by `inventory::submit!`.
pub struct SupportEntry(pub ImageSupport);

inventory::collect!(SupportEntry);

impl fmt::Debug for SupportEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SupportEntry")
    }
}

impl fmt::Debug for ImageSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImageSupport")
    }
}

/// The least length of an image, decompressed, if this program can find it out.
pub(super) fn least_length(start: &[u8], length: u64) -> Option<u64> {
    let linked = inventory::iter::<SupportEntry>().next()?;
    (linked.0.least_length)(start, length)
}

/// The linked support; `what` says in the error what needs it.
pub(super) fn support(what: &str) -> Result<ImageSupport> {
    let linked = inventory::iter::<SupportEntry>().next();
    linked.map(|entry| entry.0).ok_or_else(|| {
        Error::unimplemented(format!("this program cannot {what}"))
            .with_hint("link a crate that can: `use jumpstarter_transfer as _;`")
    })
}
