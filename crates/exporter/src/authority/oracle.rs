//! Compares the rewriting with the HTTP/2 library: it must decode the intended requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use h2::{RecvStream, server};
use tokio::io::AsyncReadExt;

use super::tests::{Numbers, Pieces, frame, integer};
use crate::watched::Watched;

/// HPACK's Huffman code (RFC 7541, appendix B): the code of each byte, and its number of bits.
#[rustfmt::skip]
const CODES: [(u32, u32); 256] = [
    (0x1ff8, 13), (0x7fffd8, 23), (0xfffffe2, 28), (0xfffffe3, 28), (0xfffffe4, 28), (0xfffffe5, 28),
    (0xfffffe6, 28), (0xfffffe7, 28), (0xfffffe8, 28), (0xffffea, 24), (0x3ffffffc, 30), (0xfffffe9, 28),
    (0xfffffea, 28), (0x3ffffffd, 30), (0xfffffeb, 28), (0xfffffec, 28), (0xfffffed, 28), (0xfffffee, 28),
    (0xfffffef, 28), (0xffffff0, 28), (0xffffff1, 28), (0xffffff2, 28), (0x3ffffffe, 30), (0xffffff3, 28),
    (0xffffff4, 28), (0xffffff5, 28), (0xffffff6, 28), (0xffffff7, 28), (0xffffff8, 28), (0xffffff9, 28),
    (0xffffffa, 28), (0xffffffb, 28), (0x14, 6), (0x3f8, 10), (0x3f9, 10), (0xffa, 12), (0x1ff9, 13), (0x15, 6),
    (0xf8, 8), (0x7fa, 11), (0x3fa, 10), (0x3fb, 10), (0xf9, 8), (0x7fb, 11), (0xfa, 8), (0x16, 6), (0x17, 6),
    (0x18, 6), (0x0, 5), (0x1, 5), (0x2, 5), (0x19, 6), (0x1a, 6), (0x1b, 6), (0x1c, 6), (0x1d, 6), (0x1e, 6),
    (0x1f, 6), (0x5c, 7), (0xfb, 8), (0x7ffc, 15), (0x20, 6), (0xffb, 12), (0x3fc, 10), (0x1ffa, 13), (0x21, 6),
    (0x5d, 7), (0x5e, 7), (0x5f, 7), (0x60, 7), (0x61, 7), (0x62, 7), (0x63, 7), (0x64, 7), (0x65, 7),
    (0x66, 7), (0x67, 7), (0x68, 7), (0x69, 7), (0x6a, 7), (0x6b, 7), (0x6c, 7), (0x6d, 7), (0x6e, 7),
    (0x6f, 7), (0x70, 7), (0x71, 7), (0x72, 7), (0xfc, 8), (0x73, 7), (0xfd, 8), (0x1ffb, 13), (0x7fff0, 19),
    (0x1ffc, 13), (0x3ffc, 14), (0x22, 6), (0x7ffd, 15), (0x3, 5), (0x23, 6), (0x4, 5), (0x24, 6), (0x5, 5),
    (0x25, 6), (0x26, 6), (0x27, 6), (0x6, 5), (0x74, 7), (0x75, 7), (0x28, 6), (0x29, 6), (0x2a, 6), (0x7, 5),
    (0x2b, 6), (0x76, 7), (0x2c, 6), (0x8, 5), (0x9, 5), (0x2d, 6), (0x77, 7), (0x78, 7), (0x79, 7), (0x7a, 7),
    (0x7b, 7), (0x7ffe, 15), (0x7fc, 11), (0x3ffd, 14), (0x1ffd, 13), (0xffffffc, 28), (0xfffe6, 20),
    (0x3fffd2, 22), (0xfffe7, 20), (0xfffe8, 20), (0x3fffd3, 22), (0x3fffd4, 22), (0x3fffd5, 22),
    (0x7fffd9, 23), (0x3fffd6, 22), (0x7fffda, 23), (0x7fffdb, 23), (0x7fffdc, 23), (0x7fffdd, 23),
    (0x7fffde, 23), (0xffffeb, 24), (0x7fffdf, 23), (0xffffec, 24), (0xffffed, 24), (0x3fffd7, 22),
    (0x7fffe0, 23), (0xffffee, 24), (0x7fffe1, 23), (0x7fffe2, 23), (0x7fffe3, 23), (0x7fffe4, 23),
    (0x1fffdc, 21), (0x3fffd8, 22), (0x7fffe5, 23), (0x3fffd9, 22), (0x7fffe6, 23), (0x7fffe7, 23),
    (0xffffef, 24), (0x3fffda, 22), (0x1fffdd, 21), (0xfffe9, 20), (0x3fffdb, 22), (0x3fffdc, 22),
    (0x7fffe8, 23), (0x7fffe9, 23), (0x1fffde, 21), (0x7fffea, 23), (0x3fffdd, 22), (0x3fffde, 22),
    (0xfffff0, 24), (0x1fffdf, 21), (0x3fffdf, 22), (0x7fffeb, 23), (0x7fffec, 23), (0x1fffe0, 21),
    (0x1fffe1, 21), (0x3fffe0, 22), (0x1fffe2, 21), (0x7fffed, 23), (0x3fffe1, 22), (0x7fffee, 23),
    (0x7fffef, 23), (0xfffea, 20), (0x3fffe2, 22), (0x3fffe3, 22), (0x3fffe4, 22), (0x7ffff0, 23),
    (0x3fffe5, 22), (0x3fffe6, 22), (0x7ffff1, 23), (0x3ffffe0, 26), (0x3ffffe1, 26), (0xfffeb, 20),
    (0x7fff1, 19), (0x3fffe7, 22), (0x7ffff2, 23), (0x3fffe8, 22), (0x1ffffec, 25), (0x3ffffe2, 26),
    (0x3ffffe3, 26), (0x3ffffe4, 26), (0x7ffffde, 27), (0x7ffffdf, 27), (0x3ffffe5, 26), (0xfffff1, 24),
    (0x1ffffed, 25), (0x7fff2, 19), (0x1fffe3, 21), (0x3ffffe6, 26), (0x7ffffe0, 27), (0x7ffffe1, 27),
    (0x3ffffe7, 26), (0x7ffffe2, 27), (0xfffff2, 24), (0x1fffe4, 21), (0x1fffe5, 21), (0x3ffffe8, 26),
    (0x3ffffe9, 26), (0xffffffd, 28), (0x7ffffe3, 27), (0x7ffffe4, 27), (0x7ffffe5, 27), (0xfffec, 20),
    (0xfffff3, 24), (0xfffed, 20), (0x1fffe6, 21), (0x3fffe9, 22), (0x1fffe7, 21), (0x1fffe8, 21),
    (0x7ffff3, 23), (0x3fffea, 22), (0x3fffeb, 22), (0x1ffffee, 25), (0x1ffffef, 25), (0xfffff4, 24),
    (0xfffff5, 24), (0x3ffffea, 26), (0x7ffff4, 23), (0x3ffffeb, 26), (0x7ffffe6, 27), (0x3ffffec, 26),
    (0x3ffffed, 26), (0x7ffffe7, 27), (0x7ffffe8, 27), (0x7ffffe9, 27), (0x7ffffea, 27), (0x7ffffeb, 27),
    (0xffffffe, 28), (0x7ffffec, 27), (0x7ffffed, 27), (0x7ffffee, 27), (0x7ffffef, 27), (0x7fffff0, 27),
    (0x3ffffee, 26),
];

/// The characters of an authority that are not delimiters.
const UNRESERVED: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
/// The variable with the number of connections to try, if more than a few.
const ROUNDS: &str = "JUMPSTARTER_FUZZ_ROUNDS";

fn huffman(text: &[u8]) -> Vec<u8> {
    let (mut out, mut held, mut bits) = (Vec::new(), 0u64, 0);
    for byte in text {
        let (code, length) = CODES[usize::from(*byte)];
        held = held << length | u64::from(code);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((held << (8 - bits)) as u8 | (0xff >> bits) as u8);
    }
    out
}

fn string(text: &[u8], coded: bool) -> Vec<u8> {
    let bytes = if coded { huffman(text) } else { text.to_vec() };
    [integer(if coded { 0x80 } else { 0 }, 7, bytes.len()), bytes].concat()
}

/// A client's encoder: it knows the dynamic table, the newest entry first.
#[derive(Default)]
struct Encoder(Vec<(Vec<u8>, Vec<u8>)>);

impl Encoder {
    /// Writes a field in one of the possible ways.
    fn field(&mut self, name: &[u8], value: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let whole = self.0.iter().position(|(n, v)| n == name && v == value);
        if let Some(at) = whole.filter(|_| numbers.below(3) > 0) {
            return integer(0x80, 7, 62 + at);
        }
        let (first, bits) = [(0x40, 6), (0, 4), (0x10, 4)][numbers.below(3)];
        let fixed = match name {
            b":authority" => Some(1),
            b":path" => Some(4),
            _ => None,
        };
        let known = self.0.iter().position(|(n, _)| n == name).map(|at| 62 + at);
        let index = match numbers.below(3) {
            0 => None,
            1 => fixed.or(known),
            _ => known.or(fixed),
        };
        let mut out = integer(first, bits, index.unwrap_or(0));
        if index.is_none() {
            out.extend(string(name, numbers.below(2) == 0));
        }
        out.extend(string(value, numbers.below(2) == 0));
        if first == 0x40 {
            self.0.insert(0, (name.to_vec(), value.to_vec()));
            while self.0.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
                > 4096
            {
                self.0.pop();
            }
        }
        out
    }
}

/// The intended request.
struct Wanted {
    authority: Vec<u8>,
    path: Vec<u8>,
    headers: BTreeMap<String, Vec<u8>>,
}

impl Wanted {
    fn any(numbers: &mut Numbers) -> Self {
        let mut text = |symbols: &[u8], limit: usize| -> Vec<u8> {
            (0..1 + numbers.below(limit)).map(|_| symbols[numbers.below(symbols.len())]).collect()
        };
        let percent = [UNRESERVED, b"%%%%%%%%%%%%"].concat();
        let visible: Vec<u8> = (0x21..=0xff).filter(|byte| *byte != 0x7f).collect();
        let authority = text(&percent, 60);
        let path = [b"/%2F", &text(&percent, 40)[..]].concat();
        let headers =
            (0..4).map(|number| (format!("x-{}", number % 3), text(&visible, 300))).collect();
        Self { authority, path, headers }
    }

    /// Checks that every `%` of the authority was replaced, and nothing else changed.
    #[track_caller]
    fn check(&self, request: &http::Request<RecvStream>) {
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let authority = authority.expect("each has one");
        assert_eq!(authority.len(), self.authority.len(), "{request:?}");
        for (found, meant) in authority.iter().zip(&self.authority) {
            let right = if *meant == b'%' { matches!(*found, b'-' | b'.') } else { found == meant };
            assert!(right, "{request:?}");
        }
        assert_eq!(request.uri().path().as_bytes(), self.path);
        for (name, value) in &self.headers {
            assert_eq!(request.headers()[name.as_str()].as_bytes(), value, "{name}");
        }
    }
}

/// The frames of one request.
fn request(wanted: &Wanted, stream: u32, encoder: &mut Encoder, numbers: &mut Numbers) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    block.extend(encoder.field(b":path", &wanted.path, numbers));
    block.extend(encoder.field(b":authority", &wanted.authority, numbers));
    for (name, value) in &wanted.headers {
        block.extend(encoder.field(name.as_bytes(), value, numbers));
    }
    // The library accepts few CONTINUATION frames.
    let size = (1 + numbers.below(200)).max(block.len().div_ceil(4));
    let pieces: Vec<&[u8]> = block.chunks(size).collect();
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let mut flags = if index + 1 == pieces.len() { 4 } else { 0 };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if index == 0 {
            flags |= 1;
            if numbers.below(2) == 0 {
                flags |= 8;
                after = vec![0; numbers.below(256)];
                before.push(after.len() as u8);
            }
            if numbers.below(2) == 0 {
                flags |= 0x20;
                before.extend([0, 0, 0, 0, b'%']);
            }
        }
        out.extend(on_stream(
            stream,
            frame(if index == 0 { 1 } else { 9 }, flags, &[&before[..], piece, &after].concat()),
        ));
    }
    out
}

fn on_stream(stream: u32, mut frame: Vec<u8>) -> Vec<u8> {
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

/// What the library decodes from a rewritten connection.
async fn decoded(
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    requests: usize,
) -> Vec<http::Request<RecvStream>> {
    // The client stays connected; the server's answers are discarded.
    let (silence, _open) = tokio::io::duplex(1);
    let connection = tokio::io::join(Pieces::new(bytes, sizes).chain(silence), tokio::io::sink());
    let handshake = server::Builder::new()
        .max_header_list_size(1 << 20)
        .handshake::<_, Bytes>(Watched::new(connection));
    let mut connection = handshake.await.expect("the preface is right");
    let mut accepted = Vec::new();
    while accepted.len() < requests {
        let Some(next) = connection.accept().await else { break };
        accepted.push(next.expect("every request is accepted").0);
    }
    accepted
}

#[test]
fn what_the_library_decodes_is_what_was_meant() {
    let rounds = std::env::var(ROUNDS).map_or(300, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut numbers = Numbers(0xfeed_f00d);
    for round in 0..rounds {
        let mut encoder = Encoder::default();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(on_stream(0, frame(4, 0, &[])));
        for index in 0..1 + numbers.below(12) {
            let mut next = Wanted::any(&mut numbers);
            if let Some(earlier) = wanted.last().filter(|_| numbers.below(2) == 0) {
                next.authority.clone_from(&earlier.authority);
            }
            bytes.extend(request(&next, 1 + 2 * index as u32, &mut encoder, &mut numbers));
            wanted.push(next);
        }
        let sizes = (0..4).map(|_| 1 + numbers.below(400)).collect();
        let accepted = runtime.block_on(decoded(bytes, sizes, wanted.len()));
        assert_eq!(accepted.len(), wanted.len(), "round {round}");
        for (request, wanted) in accepted.iter().zip(&wanted) {
            wanted.check(request);
        }
    }
}
