//! Images to flash: small, and without repetition.

/// The default length of the images in bytes: not a multiple of any block.
pub(crate) const LENGTH: usize = 192 * 1024 + 123;

/// The image that a test flashes first.
pub fn old() -> Vec<u8> {
    old_of(LENGTH)
}

/// The image that replaces it, of the same length.
pub fn new() -> Vec<u8> {
    new_of(LENGTH)
}

/// The image of that length in bytes that a test flashes first.
pub fn old_of(length: usize) -> Vec<u8> {
    pattern(length, 1)
}

/// The image of that length that replaces it.
pub fn new_of(length: usize) -> Vec<u8> {
    pattern(length, 2)
}

/// [`new`], compressed by the tool of that name: `gzip`, `xz`, `bzip2` or `zstd`.
pub fn new_compressed(tool: &str) -> Option<&'static [u8]> {
    match tool {
        "gzip" => Some(include_bytes!("../images/new.img.gz")),
        "xz" => Some(include_bytes!("../images/new.img.xz")),
        "bzip2" => Some(include_bytes!("../images/new.img.bz2")),
        "zstd" => Some(include_bytes!("../images/new.img.zst")),
        _ => None,
    }
}

/// Blocks of 4 KiB; every third block, and every third mebibyte, is zero. The seed shifts them, so
/// that no zero of one image lies over a zero of the other.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    let byte = |at: usize| match at / 4096 {
        block if block % 3 == seed || (at >> 20) % 3 == 3 - seed => 0,
        block => (at * 31 + (at >> 5) * 17 + block * seed + seed) as u8,
    };
    (0..length).map(byte).collect()
}

/// The SHA-256 of [`new`], in hexadecimal.
pub const NEW_SHA256: &str = "23a25f62c03d7f3f05db6aa5eaa8f15b82d36eaf3b6c18bc275d61796e85b363";
