//! Files that are not images: archives, unsupported compressions, pages of a web server.
//! Handwritten, because each entry has a different instruction.

use std::fmt;

/// The number of bytes that [`foreign`] needs: the header of a tar archive.
pub const FOREIGN_SIGNATURE: usize = 512;

/// The kind of a file that at best contains an image, with an instruction.
///
/// ```
/// use jumpstarter_codec::foreign;
///
/// let found = foreign(b"\x02\x21\x4c\x18 and so on").unwrap();
/// assert_eq!(found.to_string(), "lz4 compressed data (legacy format)");
/// assert_eq!(found.hint(), "decompress it first: `lz4 -d FILE`");
/// assert!(foreign(b"\xeb\x63\x90 boot sector").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    name: &'static str,
    hint: &'static str,
}

impl Foreign {
    /// Whether it is a page, which servers send in place of a file.
    pub fn is_page(&self) -> bool {
        *self == PAGE
    }

    /// An instruction that remedies it.
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}

impl fmt::Display for Foreign {
    /// The usual name, for example `a zip archive`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Identifies a file by its first bytes ([`FOREIGN_SIGNATURE`] of them, or all of a shorter file),
/// if it is a container, an unsupported compression, or text that a server sends in place of an
/// image.
///
/// Decompressed bytes can be checked, too; [`Compression::detect`](crate::Compression::detect)
/// shows whether they are compressed a second time.
pub fn foreign(start: &[u8]) -> Option<Foreign> {
    let listed = LISTED.iter().find(|(signature, ..)| start.starts_with(signature));
    listed
        .map(|(_, name, hint)| Foreign { name, hint })
        .or_else(|| is_compress(start).then_some(COMPRESS))
        .or_else(|| is_tar(start).then_some(TAR))
        .or_else(|| is_page(start).then_some(PAGE))
}

const UNPACK: &str = "unpack it first and flash the image in it";
const DECRYPT: &str = "decrypt it first and flash the image in it";

/// Signatures at the very beginning.
const LISTED: &[(&[u8], &str, &str)] = &[
    (
        b"\x02\x21\x4c\x18",
        "lz4 compressed data (legacy format)",
        "decompress it first: `lz4 -d FILE`",
    ),
    (b"\x89LZO\x00\r\n\x1a\n", "lzop compressed data", "decompress it first: `lzop -d FILE`"),
    (b"LRZI\x00", "lrzip compressed data", "decompress it first: `lrzip -d FILE`"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy compressed data", "decompress it first: `snzip -d FILE`"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: `unzip FILE`, and flash the image in it"),
    (b"PK\x05\x06", "an empty zip archive", "get the file again: there is nothing in it"),
    (
        b"PK\x07\x08",
        "a zip archive in several parts",
        "unpack it first: `7z x FILE`, and flash the image in it",
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it first: `7z x FILE`, and flash the image in it",
    ),
    (
        b"Rar!\x1a\x07",
        "a rar archive",
        "unpack it first: `unrar x FILE`, and flash the image in it",
    ),
    (b"MSCF\x00\x00\x00\x00", "a cabinet archive", UNPACK),
    (b"MSWIM\x00\x00\x00", "a Windows image (WIM), which holds files", UNPACK),
    (b"xar!\x00\x1c", "a xar archive", UNPACK),
    (b"!<arch>\n", "an ar archive (a Debian package, for example)", UNPACK),
    (b"\xed\xab\xee\xdb", "an RPM package", UNPACK),
    (
        b"partclone-image",
        "a partclone image",
        "restore it first: `partclone.restore -C -s FILE -O FILE.raw`, and flash that",
    ),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, which stands for the image",
        "get the image itself: `git lfs pull`",
    ),
    (
        b"-----BEGIN PGP ",
        "an OpenPGP text (a signature, for example)",
        "flash the image, which is another file",
    ),
    (b"age-encryption.org/v1\n", "a file encrypted with age", DECRYPT),
    (b"Salted__", "a file encrypted with `openssl enc`", DECRYPT),
];

const COMPRESS: Foreign =
    Foreign { name: "compress'd data (.Z)", hint: "decompress it first: `gzip -d FILE.Z`" };
const TAR: Foreign = Foreign {
    name: "a tar archive",
    hint: "unpack it first: `tar -xf FILE`, and flash the image in it",
};
const PAGE: Foreign = Foreign {
    name: "a web page, or XML or JSON text",
    hint: "open it in a browser: servers send a page of a login or an error in place of a file",
};

/// `compress`: two bytes, then the largest code's bits (9 to 16) and flags; two flags are unused.
fn is_compress(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x9d, flags, ..] if (9..=16).contains(&(flags & 0x1f)) && flags & 0x60 == 0)
}

/// A header whose checksum is right, in any of tar's formats. The checksum is counted as blanks;
/// some count signed bytes.
fn is_tar(start: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(header) = start.first_chunk::<FOREIGN_SIGNATURE>() else { return false };
    let digits = header[CHECKSUM].trim_ascii_start();
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if header[0] == 0 || digits.is_empty() || !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return false;
    }
    let written = digits.iter().fold(0, |sum, digit| sum * 8 + i64::from(digit - b'0'));
    let counted = |value: fn(u8) -> i64| -> i64 {
        let bytes = header.iter().enumerate();
        bytes.map(|(at, byte)| value(if CHECKSUM.contains(&at) { b' ' } else { *byte })).sum()
    };
    written == counted(i64::from) || written == counted(|byte| i64::from(byte.cast_signed()))
}

/// HTML, XML or JSON, after a byte order mark and blanks.
fn is_page(start: &[u8]) -> bool {
    let narrow: Vec<u8>;
    let text = match start {
        [0xef, 0xbb, 0xbf, text @ ..] => text,
        // UTF-16: of letters as these one byte of each two is 0.
        [0xff, 0xfe, wide @ ..] | [0xfe, 0xff, wide @ ..] => {
            narrow = wide.iter().copied().filter(|byte| *byte != 0).collect();
            &narrow
        }
        text => text,
    };
    let text = text.trim_ascii_start();
    if is_json(text) {
        return true;
    }
    let begins =
        |word: &&[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    [&b"<!doctype"[..], b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<error>", b"<script"]
        .iter()
        .any(begins)
}

/// An object with a first key or none, or a list with a first value that is no number; printable
/// all through.
fn is_json(text: &[u8]) -> bool {
    let Some((opening, rest)) = text.split_first() else { return false };
    let first = rest.trim_ascii_start().first();
    let is_start = match opening {
        b'{' => matches!(first, Some(b'"' | b'}')),
        b'[' => matches!(first, Some(b'"' | b'{' | b'[' | b']')),
        _ => false,
    };
    is_start && text.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}
