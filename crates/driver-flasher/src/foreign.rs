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
    if let Some(cut) = cut_off(start) {
        let message = format!(
            "{name} ends early: its {} bytes are the beginning of {cut} compressed data; nothing \
             was written",
            start.len()
        );
        return Err(Error::data_loss(message).with_hint("the file was cut off: get it again"));
    }
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

/// How compressed files begin; the digit of bzip2 is its level.
const SIGNATURES: [(&str, &[u8]); 8] = [
    ("gzip", b"\x1f\x8b\x08"),
    ("xz", b"\xfd7zXZ\0"),
    ("bzip2", b"BZh9\x31\x41\x59\x26\x53\x59"),
    ("bzip2", b"BZh9\x17\x72\x45\x38\x50\x90"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", b"\x04\x22\x4d\x18"),
    ("lzip", b"LZIP\x01"),
    ("Android sparse", b"\x3a\xff\x26\xed\x01\0"),
];

/// The compression of a file that ends within its signature. A single byte is too few to say so.
fn cut_off(whole: &[u8]) -> Option<&'static str> {
    let mut whole = whole.to_vec();
    if let [b'B', b'Z', b'h', level @ b'1'..=b'9', ..] = whole.as_mut_slice() {
        *level = b'9';
    }
    let is_part = |signature: &[u8]| {
        (2..signature.len()).contains(&whole.len()) && signature.starts_with(&whole)
    };
    SIGNATURES.iter().find(|(_, signature)| is_part(signature)).map(|(name, _)| *name)
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

    #[test]
    fn a_part_of_a_signature_is_what_is_left_of_a_compressed_file() {
        let cut = |start: &[u8]| cut_off(start).is_some();
        for (name, signature) in SIGNATURES {
            for length in 2..signature.len() {
                assert!(cut(&signature[..length]), "{name}, {length} bytes");
            }
            assert!(!cut(&signature[..1]) && !cut(signature), "{name}");
            assert_eq!(Compression::detect(signature).to_string(), name);
        }
        assert!(cut(b"BZh1\x31\x41") && !cut(b"BZx") && !cut(b"ok") && !cut(b""));
    }
}
