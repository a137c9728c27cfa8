//! Damaged input, for short runs of the fuzz targets' tests.

use fastrand::Rng;

/// A random number generator with the same numbers in each run.
pub fn random() -> Rng {
    Rng::with_seed(0x9e37_79b9_7f4a_7c15)
}

/// Returns the bytes with one to four damages: bits and bytes changed, inserted, removed, repeated,
/// the end cut off or zeros appended. `telling` are bytes with a meaning in the format.
pub fn damaged(bytes: &[u8], telling: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..=4) {
        // The position after the end is valid for an insertion.
        let (one, other) = (random.usize(..=bytes.len()), random.usize(..=bytes.len()));
        let (from, to) = (one.min(other), one.max(other));
        match random.u8(..8) {
            0 if one < bytes.len() => bytes[one] ^= 1 << random.u8(..8),
            1 if one < bytes.len() => bytes[one] = random.choice(telling).copied().unwrap_or(0),
            2 => bytes.truncate(one),
            3 => bytes.insert(one, random.u8(..)),
            4 => bytes.splice(one..one, random.choice(telling).copied()).for_each(drop),
            5 => drop(bytes.drain(from..to.min(from + 12))),
            6 => bytes.extend_from_within(from..to.min(from + 400)),
            _ => bytes.resize(bytes.len() + random.usize(..40), 0),
        }
    }
    bytes
}
