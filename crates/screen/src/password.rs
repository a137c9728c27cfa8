//! VNC's authentication: a challenge, enciphered by a password.

use des::Des;
use des::cipher::{BlockEncrypt, KeyInit};
use jumpstarter_driver_core::Secret;

/// A challenge and its answer.
pub(crate) type Challenge = [u8; 16];

/// The answer to a challenge. Only the first eight bytes of a password count, as with every server.
pub(crate) fn answer(password: &Secret, challenge: Challenge) -> Challenge {
    let mut key = [0; 8];
    for (byte, letter) in key.iter_mut().zip(password.expose().bytes()) {
        // The protocol has the bits of each byte of the key in the other order.
        *byte = letter.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut answer = challenge;
    for block in answer.chunks_exact_mut(8) {
        cipher.encrypt_block(block.into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_other_clients() {
        let check = |password: &str, expected: [u8; 8]| {
            let answer = answer(&Secret::new(password), [0; 16]);
            assert_eq!((&answer[..8], &answer[8..]), (&expected[..], &expected[..]), "{password}");
        };
        // DES of zeros by a key of zeros, and by the key whose bits are those of `COW` mirrored.
        check("", [0x8c, 0xa6, 0x4d, 0xe9, 0xc1, 0xb1, 0x23, 0xa7]);
        assert_eq!(
            answer(&Secret::new("longer than eight"), [7; 16]),
            answer(&Secret::new("longer t"), [7; 16])
        );
    }
}
