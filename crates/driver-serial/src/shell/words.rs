//! Texts as a shell and `cksum` see them.

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

/// The checksum of POSIX's `cksum`.
pub(super) fn cksum(bytes: &[u8]) -> u32 {
    let mut length = Vec::new();
    let mut rest = bytes.len();
    while rest > 0 {
        length.push(rest as u8);
        rest >>= 8;
    }
    let sum = bytes.iter().chain(&length).fold(0_u32, |sum, byte| {
        let mut sum = sum ^ (u32::from(*byte) << 24);
        for _ in 0..8 {
            sum = if sum & 0x8000_0000 == 0 { sum << 1 } else { (sum << 1) ^ 0x04c1_1db7 };
        }
        sum
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_cksum() {
        // printf … | cksum
        assert_eq!(cksum(b""), 4_294_967_295);
        assert_eq!(cksum(b"123456789"), 930_766_865);
        assert_eq!(cksum(&[0; 300]), 351_385_237);
    }

    #[test]
    fn quoted_text_is_one_word() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert!(fits_in_a_line("uname -a") && !fits_in_a_line("a\nb"));
        assert!(!fits_in_a_line(&"x".repeat(701)));
    }
}
