//! Refuses files that are not images by name, before anything is written: an archive, a web page,
//! something that was compressed twice.
//!
//! A partition may be meant to hold an archive: set `decompress: false` for that.

use jumpstarter_codec::{Compression, FOREIGN_SIGNATURE, foreign};
use jumpstarter_driver_core::{Error, Result};

/// The part of an image's start that [`refuse`] checks.
pub(crate) const LOOKED_AT: usize = FOREIGN_SIGNATURE;

/// Refuses an image by its first bytes after removing `compression`.
pub(crate) fn refuse(name: &str, start: &[u8], compression: Compression) -> Result<()> {
    let Some((what, hint)) = suspicious(start) else { return Ok(()) };
    let inside = match compression {
        Compression::Raw => String::new(),
        _ => format!(" (in {compression})"),
    };
    let message = format!("{name} is {what}{inside}, not an image; nothing was written");
    Err(Error::invalid_argument(message).with_hint(format!(
        "{hint}; a flasher with `decompress: false` in the exporter file writes it as it is"
    )))
}

/// The name of a file with these first bytes, with a hint.
fn suspicious(start: &[u8]) -> Option<(String, String)> {
    if let Some(found) = foreign(start) {
        return Some((found.to_string(), found.hint().to_owned()));
    }
    match Compression::detect(start) {
        Compression::Raw => None,
        again => Some((
            format!("{again} compressed data"),
            "it was compressed twice: decompress it first, once, and flash the result".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_and_second_layers_are_suspicious_and_disks_are_not() {
        let named = |start: &[u8]| suspicious(start).map(|(what, _)| what);
        assert_eq!(named(b"PK\x03\x04 and so on").as_deref(), Some("a zip archive"));
        assert_eq!(named(b"\x1f\x8b\x08\0\0\0\0\0\0\x03").as_deref(), Some("gzip compressed data"));
        let mut disk = vec![0; 512];
        disk[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(named(&disk), None);
    }
}
