//! Texts as a shell and `sha256sum` see them.

use jumpstarter_driver_core::image::hex;

/// The longest text of a line: busybox's shell cuts lines after 1023 bytes.
pub(super) const LONGEST: usize = 700;

/// `text` as one word of a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether `text` can be typed in a line.
pub(super) fn fits_in_a_line(text: &str) -> bool {
    text.len() <= LONGEST && !text.bytes().any(|byte| byte.is_ascii_control())
}

/// The SHA-256 of `bytes`, in hex as `sha256sum` prints it. coreutils, busybox and toybox have that
/// program; a shorter checksum, `cksum`, is missing in some builds of busybox.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum() {
        // printf abc | sha256sum
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), sum);
    }

    #[test]
    fn quoted_text_is_one_word() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert!(fits_in_a_line("uname -a") && !fits_in_a_line("a\nb"));
        assert!(!fits_in_a_line(&"x".repeat(701)));
    }
}
