//! What is written as it is though it looks like no image: said by name, in the log that the client
//! sees.
//!
//! It is no error. A partition may well be meant to hold an archive, or something that a boot
//! loader decompresses. With `decompress: false` the owner asks for that, and there is no warning.

use jumpstarter_codec::{Compression, FOREIGN_SIGNATURE, foreign};

/// How much of an image's start [`warn`] looks at.
pub(crate) const LOOKED_AT: usize = FOREIGN_SIGNATURE;

/// Warns of an image that starts so once `compression` is taken off.
pub(crate) fn warn(name: &str, start: &[u8], compression: Compression) {
    if let Some((what, hint)) = suspicious(start) {
        let inside = match compression {
            Compression::Raw => String::new(),
            _ => format!(" (in {compression})"),
        };
        tracing::warn!("{name} is {what}{inside}: it is written as it is; {hint}");
    }
}

/// What these first bytes are of, and what to do about it.
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
