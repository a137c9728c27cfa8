//! Images on the command line: a file, a URL, or `-` for a standard stream.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use jumpstarter_driver_core::{Error, ImageSink, ImageSource};

use jumpstarter_storage::s3_image;
use jumpstarter_supervise::StandardStream;

use super::output::Output;
use crate::fault::{Fault, Result};
use crate::terminal::output;

/// The word for standard input or output.
pub(crate) const STANDARD_STREAM: &str = "-";

/// The image to read. One in a bucket (`s3://BUCKET/KEY`) is signed for with this process's
/// credentials, so that who fetches it needs none.
pub(crate) async fn source(word: &OsStr) -> Result<ImageSource> {
    match word.to_str().filter(|word| is_s3(word)) {
        Some(url) => Ok(ImageSource::request(s3_image(url, BTreeMap::new()).await?)),
        None => source_without_bucket(word),
    }
}

/// As [`source`], but for images in buckets.
pub(crate) fn source_without_bucket(word: &OsStr) -> Result<ImageSource> {
    Ok(match word.to_str() {
        Some(STANDARD_STREAM) => {
            ImageSource::reader(tokio::io::stdin(), None).with_name("standard input")
        }
        Some(url) if is_s3(url) => {
            let message = "an image in a bucket is an argument of verbs only";
            return Err(Fault::usage(message, "use a verb, such as `flash` or `write`"));
        }
        Some(url) if is_url(url) || is_oci(url) => ImageSource::url(url).map_err(Fault::Usage)?,
        _ => ImageSource::path(word),
    })
}

/// Whether the word names an image in a registry of container images.
pub(crate) fn is_oci(word: &str) -> bool {
    word.starts_with("oci://")
}

/// Whether the word names an image in a bucket.
pub(crate) fn is_s3(word: &str) -> bool {
    word.starts_with("s3://")
}

/// Whether the word is the URL of an image.
pub(crate) fn is_url(word: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| word.starts_with(scheme))
}

/// The destination of an image.
pub(crate) fn sink(word: &OsStr) -> Result<ImageSink> {
    Ok(match word.to_str() {
        Some(STANDARD_STREAM) => {
            if jumpstarter_supervise::was_closed(StandardStream::Output) {
                return Err(Fault::usage(
                    "standard output is closed",
                    "redirect it, or name a file",
                ));
            }
            // Tokio's standard output loses the last write if it is shut down without a flush.
            ImageSink::writer(output().map_err(Error::from)?)
        }
        Some(url) if is_url(url) => ImageSink::url(url).map_err(Fault::Usage)?,
        _ => ImageSink::path(word),
    })
}

/// As [`sink`], opened: a destination that cannot be written fails before the transfer. Waits for
/// the reader of a named pipe.
pub(crate) async fn open_sink(word: &OsStr, output: &Output) -> Result<ImageSink> {
    let mut sink = sink(word)?;
    sink.open().await?;
    if let Some(why) = sink.in_place() {
        output.note(format!("it is written in place: {why}"));
    }
    Ok(sink)
}

/// The image's name in messages: the last part of a path or URL, without a URL's secrets.
pub(crate) fn label(word: &OsStr) -> String {
    let word = &*word.to_string_lossy();
    let without_query =
        if is_url(word) { word.split(['?', '#']).next().unwrap_or_default() } else { word };
    match without_query.trim_end_matches('/').rsplit('/').next() {
        Some(name) if word != STANDARD_STREAM && !name.is_empty() => name.to_owned(),
        _ => "standard input".to_owned(),
    }
}

/// As [`label`], for a destination.
pub(crate) fn sink_label(word: &OsStr) -> String {
    if word == STANDARD_STREAM { "standard output".to_owned() } else { label(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hide_what_may_be_secret() {
        assert_eq!(label(OsStr::new("https://host/a/os.img.zst?Signature=abc#x")), "os.img.zst");
        assert_eq!(label(OsStr::new("/tmp/os.img")), "os.img");
        assert_eq!(label(OsStr::new("what?.img")), "what?.img");
        assert_eq!(label(OsStr::new("-")), "standard input");
        assert_eq!(sink_label(OsStr::new("-")), "standard output");
    }
}
