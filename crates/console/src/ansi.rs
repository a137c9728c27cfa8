//! Removes terminal control sequences (ECMA-48) from a stream of bytes. Handwritten because
//! sequences may be split anywhere, and a terminal parser would be a dependency for 60 lines.

/// The position in a sequence at which the last piece ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum AnsiStripper {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte, as in `ESC ( B`.
    Intermediate,
    /// In `ESC [ … final`: colours, cursor moves.
    Control,
    /// In `ESC ] … BEL` or `ESC P … ESC \`: titles, device strings. Any escape ends it.
    DeviceString,
}

impl AnsiStripper {
    /// Appends `bytes` without control sequences to `into`.
    pub(crate) fn strip(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        for &byte in bytes {
            *self = match (*self, byte) {
                (_, 0x1b) => Self::Escape,
                // A line's end too: a title that never ends must not swallow the rest of the
                // console.
                (Self::DeviceString, 0x07 | 0x18 | 0x1a | b'\n') => Self::Text,
                (Self::DeviceString, _) => Self::DeviceString,
                // CAN and SUB break a sequence off.
                (Self::Escape | Self::Intermediate | Self::Control, 0x18 | 0x1a) => Self::Text,
                (Self::Escape, b'[') => Self::Control,
                (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::DeviceString,
                (Self::Escape | Self::Intermediate, 0x20..=0x2f) => Self::Intermediate,
                (Self::Escape | Self::Intermediate, _) => Self::Text,
                (Self::Control, 0x40..=0x7e) => Self::Text,
                (Self::Control, 0x20..=0x3f) => Self::Control,
                (Self::Text | Self::Control, other) => {
                    // A control character in a sequence acts as if it came before it.
                    into.push(other);
                    *self
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &[u8], expected: &str) {
        // Whole, and byte by byte.
        for size in [raw.len(), 1] {
            let (mut stripper, mut out) = (AnsiStripper::default(), Vec::new());
            raw.chunks(size).for_each(|chunk| stripper.strip(chunk, &mut out));
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn sequences_go_text_stays() {
        check(b"\x1b[1;32mroot@host\x1b[0m:~# ", "root@host:~# ");
        check(b"\x1b]0;title\x07a\x1b]0;t\x1b\\b\x1b(Bc\x1b7d\x1b[?2004h", "abcd");
        check(b"gr\xc3\xbc\xc3\x9fe\r\n", "grüße\r\n");
        check(b"\x1b[1\rm.", "\r.");
        check(b"\x1b\x1b[Kx", "x");
        check(b"\x1b]0;cut off\x1b[1mx\x1b]0;no end\ny", "xy");
    }
}
