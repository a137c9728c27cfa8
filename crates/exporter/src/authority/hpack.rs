//! Walks over header blocks, byte by byte, and rewrites the values of `:authority`.

/// The index of `:authority` in HPACK's static table (RFC 7541, appendix A).
const AUTHORITY: u64 = 1;
/// The first index of the dynamic table.
const DYNAMIC: u64 = 62;
const NAME: &[u8] = b":authority";
/// `:authority` in HPACK's Huffman code (RFC 7541, appendix B), which has one way to write it.
const CODED_NAME: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// The walk ends at longer integers, which no header needs.
const MAX_SHIFT: u32 = 28;

/// The common beginning of the Huffman codes of `%` (010101) and of the blank (010100), and of no
/// others.
const PERCENT: Symbol = Symbol { code: 0b0_1010, bits: 5 };
/// The number of symbols for each length of code. The code is canonical: these numbers define where
/// each code ends.
const SYMBOLS: [u32; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19,
    29, 0, 4,
];

/// The beginning of a Huffman code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Symbol {
    code: u32,
    bits: usize,
}

impl Symbol {
    /// Passes a byte and rewrites it; returns false for an invalid code.
    ///
    /// The fifth bit identifies a `%` (or a blank, which no authority has). Flipped, it makes the
    /// code that of `.` (010111; of `-`, 010110). Only the current bit changes, so the bits that
    /// were handed on stay valid.
    fn pass(&mut self, byte: &mut u8) -> bool {
        for bit in (0..8).rev() {
            self.code = self.code << 1 | u32::from(*byte >> bit & 1);
            self.bits += 1;
            if self.bits >= SYMBOLS.len() {
                return false;
            }
            if *self == PERCENT {
                *byte ^= 1 << bit;
            }
            if self.is_complete() {
                *self = Self::default();
            }
        }
        true
    }

    fn is_complete(self) -> bool {
        let first = (1..=self.bits).fold(0, |first, bits| (first + SYMBOLS[bits - 1]) << 1);
        self.code.checked_sub(first).is_some_and(|index| index < SYMBOLS[self.bits])
    }
}

/// The meaning of the integer being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// An indexed field, or the size of the table: it does not matter.
    Nothing,
    /// The name's index in a field whose value follows, and whether the field goes into the dynamic
    /// table.
    NameIndex { kept: bool },
    /// How many bytes of a header's name follow.
    NameLength { kept: bool, huffman: bool },
    /// How many bytes of a header's value follow.
    ValueLength { huffman: bool, authority: bool },
}

/// The position of the next byte in the block.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At a field.
    Field,
    /// In an integer that did not fit into its first byte.
    Integer { meaning: Meaning, value: u64, shift: u32 },
    /// At the length of a name.
    NameStart { kept: bool },
    /// At the length of a value.
    ValueStart { authority: bool },
    /// In a name: whether it has matched `:authority` so far, in plain or coded bytes, and the
    /// number of those bytes.
    Name { kept: bool, huffman: bool, left: u64, matched: Option<usize> },
    /// In a value.
    Value { left: u64, rewrite: bool },
    /// In the value of `:authority`, Huffman-coded.
    Coded { left: u64, symbol: Symbol },
    /// Not valid HPACK: the rest of this block passes.
    Lost,
}

/// The header blocks of one connection.
#[derive(Debug)]
pub(super) struct HeaderBlocks {
    place: Place,
    /// Which entries of the dynamic table are named `:authority`; the lowest bit is the newest. An
    /// entry takes at least 32 bytes, so the server's table of 4096 bytes never has more of them.
    /// An evicted entry is forgotten here only when it is shifted out. That does not matter:
    /// nothing valid refers to it.
    authorities: u128,
}

impl Default for HeaderBlocks {
    fn default() -> Self {
        Self { place: Place::Field, authorities: 0 }
    }
}

impl HeaderBlocks {
    /// The block is complete.
    pub(super) fn end(&mut self) {
        self.place = Place::Field;
    }

    /// Passes the next bytes of a block.
    pub(super) fn pass(&mut self, data: &mut [u8]) {
        for byte in data {
            self.place = match self.place {
                Place::Lost => return,
                Place::Field => match *byte {
                    0x80.. => self.integer(*byte, 7, Meaning::Nothing),
                    0x40.. => self.integer(*byte, 6, Meaning::NameIndex { kept: true }),
                    0x20.. => self.integer(*byte, 5, Meaning::Nothing),
                    _ => self.integer(*byte, 4, Meaning::NameIndex { kept: false }),
                },
                Place::Integer { meaning, value, shift } => {
                    let value = value + (u64::from(*byte & 0x7f) << shift);
                    match *byte & 0x80 != 0 {
                        true if shift >= MAX_SHIFT => Place::Lost,
                        true => Place::Integer { meaning, value, shift: shift + 7 },
                        false => self.after(meaning, value),
                    }
                }
                Place::NameStart { kept } => {
                    self.integer(*byte, 7, Meaning::NameLength { kept, huffman: *byte & 0x80 != 0 })
                }
                Place::ValueStart { authority } => self.integer(
                    *byte,
                    7,
                    Meaning::ValueLength { huffman: *byte & 0x80 != 0, authority },
                ),
                Place::Name { kept, huffman, left, matched } => {
                    let name = if huffman { CODED_NAME } else { NAME };
                    let matched =
                        matched.filter(|have| name.get(*have) == Some(byte)).map(|have| have + 1);
                    match left {
                        1 => self.named(kept, matched == Some(name.len())),
                        _ => Place::Name { kept, huffman, left: left - 1, matched },
                    }
                }
                Place::Value { left, rewrite } => {
                    if rewrite && *byte == b'%' {
                        *byte = b'-';
                    }
                    match left {
                        1 => Place::Field,
                        _ => Place::Value { left: left - 1, rewrite },
                    }
                }
                Place::Coded { left, mut symbol } => match symbol.pass(byte) {
                    false => Place::Lost,
                    true if left == 1 => Place::Field,
                    true => Place::Coded { left: left - 1, symbol },
                },
            };
        }
    }

    /// The first byte of an integer with a prefix of `bits` bits.
    fn integer(&mut self, byte: u8, bits: u32, meaning: Meaning) -> Place {
        let full = (1u8 << bits) - 1;
        match byte & full {
            prefix if prefix == full => {
                Place::Integer { meaning, value: u64::from(prefix), shift: 0 }
            }
            prefix => self.after(meaning, u64::from(prefix)),
        }
    }

    /// The place after an integer.
    fn after(&mut self, meaning: Meaning, value: u64) -> Place {
        match meaning {
            Meaning::Nothing => Place::Field,
            Meaning::NameIndex { kept } if value == 0 => Place::NameStart { kept },
            Meaning::NameIndex { kept } => self.named(kept, self.is_authority(value)),
            Meaning::NameLength { kept, .. } if value == 0 => self.named(kept, false),
            Meaning::NameLength { kept, huffman } => {
                Place::Name { kept, huffman, left: value, matched: Some(0) }
            }
            Meaning::ValueLength { .. } if value == 0 => Place::Field,
            Meaning::ValueLength { huffman: true, authority: true } => {
                Place::Coded { left: value, symbol: Symbol::default() }
            }
            Meaning::ValueLength { authority, .. } => {
                Place::Value { left: value, rewrite: authority }
            }
        }
    }

    /// Whether the table's entry of that index is named `:authority`.
    fn is_authority(&self, index: u64) -> bool {
        let newest = index.checked_sub(DYNAMIC).and_then(|age| u32::try_from(age).ok());
        index == AUTHORITY
            || newest.is_some_and(|age| age < u128::BITS && self.authorities >> age & 1 == 1)
    }

    /// A field's name is known; it may go into the table.
    fn named(&mut self, kept: bool, authority: bool) -> Place {
        if kept {
            self.authorities = self.authorities << 1 | u128::from(authority);
        }
        Place::ValueStart { authority }
    }
}
