//! Valid and damaged connections, split at every position.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::Frames;
use crate::watched::Watched;

/// Some symbols of RFC 7541, appendix B: the symbol, its code and its number of bits.
#[rustfmt::skip]
const CODES: &[(u8, u32, u32)] = &[
    (b'a', 0x3, 5), (b'b', 0x23, 6), (b'j', 0x74, 7), (b'2', 0x2, 5), (b'F', 0x61, 7), (b'%', 0x15, 6),
    (b'-', 0x16, 6), (b'.', 0x17, 6), (b':', 0x5c, 7), (b'~', 0x1ffd, 13), (b'!', 0x3f8, 10), (b'@', 0x1ffa, 13),
    (b' ', 0x14, 6), (b'h', 0x27, 6), (b'i', 0x6, 5), (b'o', 0x7, 5), (b'r', 0x2c, 6), (b't', 0x9, 5),
    (b'u', 0x2d, 6), (b'y', 0x7a, 7),
];

fn huffman(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for byte in text {
        let (_, code, length) = CODES.iter().find(|(symbol, ..)| symbol == byte).unwrap();
        bits.extend((0..*length).rev().map(|bit| code >> bit & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

pub(super) fn integer(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let full = (1 << bits) - 1;
    if value < full {
        return vec![first | value as u8];
    }
    let (mut out, mut rest) = (vec![first | full as u8], value - full);
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

fn string(text: &[u8], coded: bool) -> Vec<u8> {
    let bytes = if coded { huffman(text) } else { text.to_vec() };
    [integer(if coded { 0x80 } else { 0 }, 7, bytes.len()), bytes].concat()
}

pub(super) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// How a client writes the name of a header.
#[derive(Clone, Copy, Debug)]
enum Name {
    /// By its index in the static table.
    Static,
    /// By the index of an earlier `:authority` in the dynamic table; the number of fields after it.
    Dynamic(usize),
    /// As plain text.
    Literal,
    /// Huffman-coded.
    Coded,
}

/// How a client writes its headers.
#[derive(Clone, Debug)]
struct Style {
    /// The first byte of the field without its index, and the number of its bits.
    representation: (u8, u32),
    name: Name,
    /// Whether the value is Huffman-coded.
    coded: bool,
    padding: Option<u8>,
    priority: bool,
    /// How much of the block each frame has.
    pieces: usize,
}

/// The expected rewriting of an authority.
fn rewritten(authority: &[u8], coded: bool) -> Vec<u8> {
    let rewrite = |byte: &u8| match (byte, coded) {
        (b'%', true) => b'.',
        (b'%', false) | (b' ', true) => b'-',
        (other, _) => *other,
    };
    authority.iter().map(rewrite).collect()
}

fn connection(authority: &[u8], style: &Style) -> Vec<u8> {
    let (first, bits) = style.representation;
    let mut block = vec![0x82, 0x3f, 0xe1, 0x1f]; // :method GET, a table of 4096 bytes
    block.extend([&[0x40][..], &string(b"x-percent", false), &string(b"100%", false)].concat());
    // the name of the field before
    block.extend([&[0x40 + 62][..], &string(b"50%", false)].concat());
    match style.name {
        Name::Static => block.extend(integer(first, bits, 1)),
        Name::Literal => {
            block.extend([integer(first, bits, 0), string(b":authority", false)].concat())
        }
        Name::Coded => {
            block.extend([integer(first, bits, 0), string(b":authority", true)].concat())
        }
        Name::Dynamic(fields) => {
            block.extend([&[0x41][..], &string(b"first", false)].concat());
            for number in 0..fields {
                let field = match number % 3 {
                    0 => [&[0x40][..], &string(b"n", false), &string(b"%", false)].concat(),
                    1 => [&[0x40 + 62][..], &string(b"%", false)].concat(),
                    // Not kept in the table: it shifts nothing.
                    _ => [&[0x00][..], &string(b"n", false), &string(b"%", false)].concat(),
                };
                block.extend(field);
            }
            block.extend(integer(first, bits, 62 + fields - fields / 3));
        }
    }
    block.extend(string(authority, style.coded));
    block.extend([&[0x04][..], &string(b"/a%2Fb", false)].concat()); // :path

    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(4, 0, &[]));
    let pieces: Vec<&[u8]> = block.chunks(style.pieces).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let mut flags = if index + 1 == pieces.len() { 4 } else { 0 };
        let mut payload = Vec::new();
        if index == 0 {
            if let Some(padding) = style.padding {
                flags |= 8;
                payload.push(padding);
            }
            if style.priority {
                flags |= 0x20;
                payload.extend(*b"%%%%%");
            }
        }
        payload.extend(*piece);
        payload.extend(vec![b'%'; usize::from(style.padding.filter(|_| index == 0).unwrap_or(0))]);
        out.extend(frame(if index == 0 { 1 } else { 9 }, flags, &payload));
    }
    out.extend(frame(0, 0, b"100 % data"));
    out
}

/// Yields the bytes in pieces of these sizes, repeatedly.
pub(super) struct Pieces(VecDeque<u8>, Vec<usize>, usize);

impl Pieces {
    pub(super) fn new(bytes: Vec<u8>, sizes: Vec<usize>) -> Self {
        Self(bytes.into(), sizes, 0)
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.2 += 1;
        if self.2.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = self.1[self.2 % self.1.len()].min(buffer.remaining()).min(self.0.len());
        let piece: Vec<u8> = self.0.drain(..size).collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

fn adapted(bytes: &[u8], sizes: Vec<usize>) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut out = Vec::new();
        let pieces = Pieces(bytes.iter().copied().collect(), sizes, 0);
        Watched::new(pieces).read_to_end(&mut out).await.unwrap();
        out
    })
}

fn any_style() -> impl Strategy<Value = Style> {
    let representation = prop_oneof![Just((0x40, 6)), Just((0, 4)), Just((0x10, 4))];
    let name = prop_oneof![
        Just(Name::Static),
        Just(Name::Literal),
        Just(Name::Coded),
        (0usize..90).prop_map(Name::Dynamic)
    ];
    let padding = prop::option::of(any::<u8>());
    (representation, name, any::<bool>(), padding, any::<bool>(), 1usize..40).prop_map(
        |(representation, name, coded, padding, priority, pieces)| Style {
            representation,
            name,
            coded,
            padding,
            priority,
            pieces,
        },
    )
}

fn any_authority() -> impl Strategy<Value = Vec<u8>> {
    let symbols: Vec<u8> = CODES.iter().map(|(symbol, ..)| *symbol).collect();
    let symbol = prop_oneof![prop::sample::select(symbols), Just(b'%')];
    prop_oneof![9 => prop::collection::vec(symbol.clone(), 1..40), 1 => prop::collection::vec(symbol, 120..300)]
}

proptest! {
    #[test]
    fn each_percent_of_the_authority_is_replaced_and_nothing_else_changes(
        authority in any_authority(),
        style in any_style(),
        sizes in prop::collection::vec(1usize..50, 1..5),
    ) {
        let expected = connection(&rewritten(&authority, style.coded), &style);
        prop_assert_eq!(adapted(&connection(&authority, &style), sizes), expected);
    }
}

#[test]
fn split_at_every_byte_and_into_frames_of_every_size() {
    for (coded, pieces) in [(false, 7), (true, 7), (true, 1), (true, 2), (true, 3), (true, 1000)] {
        let name = if coded { Name::Coded } else { Name::Static };
        let style = Style {
            representation: (0x40, 6),
            name,
            coded,
            padding: Some(3),
            priority: true,
            pieces,
        };
        let authority = b"a%2F%%j%% %";
        let (sent, expected) =
            (connection(authority, &style), connection(&rewritten(authority, coded), &style));
        for at in 1..sent.len() {
            assert_eq!(adapted(&sent, vec![at, usize::MAX]), expected, "split at {at}, {style:?}");
        }
    }
}

/// Pseudo-random numbers, the same in every run (xorshift64*).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.below(256) as u8).collect()
    }

    fn style(&mut self) -> Style {
        Style {
            representation: [(0x40, 6), (0, 4), (0x10, 4)][self.below(3)],
            name: [Name::Static, Name::Literal, Name::Coded, Name::Dynamic(7)][self.below(4)],
            coded: self.below(2) == 0,
            padding: (self.below(2) == 0).then(|| self.below(256) as u8),
            priority: self.below(2) == 0,
            pieces: 1 + self.below(60),
        }
    }

    /// A damaged connection: frames of any kind, or a client's connection with some wrong bytes.
    fn connection(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(3) {
            0 => {
                let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
                for _ in 0..self.below(12) {
                    let (kind, flags) =
                        ([0, 1, 4, 9, self.below(256)][self.below(5)], self.below(256));
                    let payload = self.bytes(60);
                    bytes.extend(frame(kind as u8, flags as u8, &payload));
                }
                bytes
            }
            1 => self.bytes(300),
            _ => connection(b"2%-%ab ~", &self.style()),
        };
        for _ in 0..self.below(4) {
            if !bytes.is_empty() {
                let at = self.below(bytes.len());
                bytes[at] = self.below(256) as u8;
            }
        }
        bytes
    }
}

/// Which bytes of a connection are in header blocks, up to the first invalid frame.
fn in_header_blocks(bytes: &[u8]) -> Vec<bool> {
    let mut inside = vec![false; bytes.len()];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut at = preface.len();
    if !bytes.starts_with(preface) {
        return inside;
    }
    while let Some(header) = bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        let (mut start, mut end) = (at + 9, at + 9 + length);
        at = end;
        if kind == 1 && flags & 8 != 0 {
            let Some(padding) = bytes.get(start) else { break };
            (start, end) = (start + 1, end.wrapping_sub(usize::from(*padding)));
        }
        if kind == 1 && flags & 0x20 != 0 {
            start += 5;
        }
        if start > end || start > at {
            break;
        }
        if kind == 1 || kind == 9 {
            (start..end.min(bytes.len())).for_each(|at| inside[at] = true);
        }
    }
    inside
}

#[test]
fn whatever_comes_changes_in_header_blocks_only() {
    assert!(
        size_of::<Frames>() <= 160,
        "what is kept of a connection is {} bytes",
        size_of::<Frames>()
    );
    let mut numbers = Numbers(0x5eed);
    let mut rewrites = 0;
    for round in 0..20_000 {
        let sent = numbers.connection();
        let mut received = sent.clone();
        let mut frames = Frames::default();
        let mut rest = &mut received[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at_mut(1 + numbers.below(rest.len()));
            frames.pass(piece);
            rest = after;
        }
        for (at, inside) in in_header_blocks(&sent).into_iter().enumerate() {
            assert!(inside || sent[at] == received[at], "round {round}: byte {at} of {sent:02x?}");
        }
        rewrites += u32::from(sent != received);
    }
    assert!(rewrites > 1000, "only {rewrites} were rewritten: the rounds show little");
}
