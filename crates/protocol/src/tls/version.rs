//! The version of a certificate, which the TLS library does not expose.

/// The content of the DER element at the start of `bytes`, if it has that tag.
fn content(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first().filter(|_| found == tag)?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.get(..length)
}

/// Whether a certificate in DER is of X.509's version 1, which TLS libraries refuse: it has no
/// extensions, so it names neither its hosts, nor whether it is an authority's.
pub(super) fn is_version_1(der: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let body = content(der, SEQUENCE).and_then(|certificate| content(certificate, SEQUENCE));
    body.and_then(|body| body.first()).is_some_and(|tag| *tag != VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_is_no_panic() {
        assert!(is_version_1(&[0x30, 0x04, 0x30, 0x02, 0x02, 0x00]));
        assert!(!is_version_1(&[0x30, 0x04, 0x30, 0x02, 0xa0, 0x00]));
        for wrong in
            [&[][..], &[0x30], &[0x30, 0x84], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x7f, 0x30]]
        {
            assert!(!is_version_1(wrong), "{wrong:?}");
        }
    }
}
