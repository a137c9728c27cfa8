//! The adapter that makes the `:authority` of Python clients acceptable, on any bytes that a
//! stranger may send.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/exporter/src/authority/frames.rs"]
#[allow(dead_code, reason = "a part of the exporter")]
mod frames;
#[path = "../../crates/exporter/src/authority/hpack.rs"]
mod hpack;

use frames::Frames;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What becomes of the bytes of a connection that arrive in pieces of that size.
fn passed(connection: &[u8], piece: usize) -> Vec<u8> {
    let mut out = connection.to_vec();
    let mut frames = Frames::default();
    for part in out.chunks_mut(piece) {
        frames.pass(part);
    }
    out
}

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (piece, with_preface, bytes) = input;
    let connection = if with_preface { [PREFACE, bytes].concat() } else { bytes.to_vec() };
    let whole = passed(&connection, usize::MAX);
    assert_eq!(whole, passed(&connection, usize::from(piece.max(1))), "where it is split changes nothing");
    assert_eq!(whole, passed(&whole, usize::MAX), "what was rewritten needs no rewriting");
    // `%` to `-`, and in HPACK's Huffman code `%` to `.`: each sets a single bit.
    for (before, after) in connection.iter().zip(&whole) {
        assert_eq!(before & after, *before, "nothing else is changed");
    }
});
