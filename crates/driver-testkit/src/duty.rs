//! Decides which duties may be waived.

/// The list of duties.
const DUTIES: &[u8] = include_bytes!("../duties.md");

/// Whether a driver may waive a duty: only a SHOULD.
///
/// [`conformance!`](crate::conformance) calls it at compile time.
pub const fn can_be_waived(duty: &str) -> bool {
    let (duty, mut at) = (duty.as_bytes(), 0);
    while at < DUTIES.len() {
        // An entry begins a line: - `ID` SHOULD
        if DUTIES[at] == b'\n'
            && matches_at(at + 1, b"- `")
            && matches_at(at + 4, duty)
            && matches_at(at + 4 + duty.len(), b"` SHOULD")
        {
            return true;
        }
        at += 1;
    }
    false
}

const fn matches_at(start: usize, wanted: &[u8]) -> bool {
    let mut index = 0;
    while index < wanted.len() {
        if start + index >= DUTIES.len() || DUTIES[start + index] != wanted[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::can_be_waived;

    #[test]
    fn only_a_should_can_be_waived() {
        assert!(can_be_waived("GENERIC-3") && can_be_waived("SERIAL-4"));
        for must in ["GENERIC-1", "GENERIC-9", "GENERIC", "GENERIC-33", "", "NO-1"] {
            assert!(!can_be_waived(must), "{must}");
        }
    }
}
