//! Random identifiers in the form of version 4 UUIDs. Handwritten, since no other code here links
//! `uuid`, which would bring a second source of random numbers beside `ring`'s for one line of
//! text.

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{Error, Result};
use ring::rand::{SecureRandom, SystemRandom};

/// A new identifier, such as `6f1b3a9e-54d2-4c0b-8a1f-0e9d3c5b7a21`.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the system has no random numbers"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn has_the_form_of_a_uuid() {
        let id = super::random().unwrap();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert_ne!(id, super::random().unwrap());
    }
}
