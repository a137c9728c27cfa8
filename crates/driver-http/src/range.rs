//! The part of a file that a request asks for (RFC 9110, section 14).

/// What the header `Range` means for a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: there is no range, or one that is ignored.
    Whole,
    /// The bytes from the first to the last, both included.
    Bytes(u64, u64),
    /// Nothing of the range is in the file.
    Unsatisfiable,
}

impl Part {
    /// The part of a file of `length` bytes. Several ranges at once are ignored, as is what is no
    /// range of bytes.
    pub(crate) fn of(header: &str, length: u64) -> Self {
        let range = header.trim().strip_prefix("bytes=").map(str::trim);
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            return Self::Whole;
        };
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        };
        match (number(first), number(last), first, last) {
            (Some(first), Some(last), ..) if first > last => Self::Whole,
            (Some(first), Some(last), ..) => Self::within(first, last, length),
            (Some(first), None, _, "") => Self::within(first, u64::MAX, length),
            (None, Some(0), "", _) => Self::Unsatisfiable,
            (None, Some(count), "", _) if length > 0 => {
                Self::within(length.saturating_sub(count), u64::MAX, length)
            }
            (None, Some(_), "", _) => Self::Unsatisfiable,
            _ => Self::Whole,
        }
    }

    fn within(first: u64, last: u64, length: u64) -> Self {
        match first < length {
            true => Self::Bytes(first, last.min(length - 1)),
            false => Self::Unsatisfiable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Part::{self, Bytes, Unsatisfiable, Whole};

    #[test]
    fn ranges_are_parts_of_the_file() {
        for (header, length, expected) in [
            ("bytes=0-0", 10, Bytes(0, 0)),
            ("bytes=2-4", 10, Bytes(2, 4)),
            ("bytes=2-", 10, Bytes(2, 9)),
            ("bytes=2-99", 10, Bytes(2, 9)),
            ("bytes=-3", 10, Bytes(7, 9)),
            ("bytes=-99", 10, Bytes(0, 9)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=4-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("lines=1-2", 10, Whole),
            ("bytes=99999999999999999999-", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(Part::of(header, length), expected, "{header} of {length}");
        }
    }
}
