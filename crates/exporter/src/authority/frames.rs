//! Finds the header blocks in the bytes of an HTTP/2 connection.

use super::hpack::HeaderBlocks;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The position of the next byte in the connection.
#[derive(Debug)]
enum Place {
    /// In the preface; the number of its bytes so far.
    Preface(usize),
    /// In the header of a frame.
    Header { bytes: [u8; HEADER], have: usize },
    /// In bytes to skip; the number of those left.
    Skip(usize),
    /// At the length of a header frame's padding.
    PadLength { left: usize, skip: usize },
    /// Before the header block: priority bytes to skip.
    Before { left: usize, skip: usize, padding: usize },
    /// In the header block; the number of its bytes left, and the padding after it.
    Block { left: usize, padding: usize },
    /// The bytes are not HTTP/2 as expected.
    Lost,
}

/// The phase of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not sent the HTTP/2 preface yet, or something else.
    Opening,
    /// It sends headers; their number in the connection.
    Headers(u32),
    Between,
}

/// Watches the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    place: Place,
    blocks: HeaderBlocks,
    /// Whether the header block ends with the frame.
    last: bool,
    /// How many header blocks have begun.
    blocks_begun: u32,
    /// The cost of frames without data, and the credit of the others.
    counts: (u32, u32),
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            place: Place::Preface(0),
            blocks: HeaderBlocks::default(),
            last: true,
            blocks_begun: 0,
            counts: (0, 0),
        }
    }
}

impl Frames {
    pub(crate) fn phase(&self) -> Phase {
        match self.place {
            Place::Preface(_) => Phase::Opening,
            Place::PadLength { .. } | Place::Before { .. } | Place::Block { .. } => {
                Phase::Headers(self.blocks_begun)
            }
            Place::Header { .. } | Place::Skip(_) if !self.last => {
                Phase::Headers(self.blocks_begun)
            }
            Place::Header { .. } | Place::Skip(_) | Place::Lost => Phase::Between,
        }
    }

    pub(crate) fn take_counts(&mut self) -> (u32, u32) {
        std::mem::take(&mut self.counts)
    }

    /// Counts a frame. Each call may be cancelled, and each piece of data may bring a ping with it.
    fn count(&mut self, kind: u8, length: usize) {
        let (cost, credit) = match kind {
            DATA => (0, length / 1024),
            HEADERS => (0, 4),
            SETTINGS => (4, 0),
            _ => (1, 0),
        };
        self.counts.0 = self.counts.0.saturating_add(cost);
        self.counts.1 = self.counts.1.saturating_add(u32::try_from(credit).unwrap_or(u32::MAX));
    }

    /// Passes the next bytes, and rewrites authorities in them.
    pub(crate) fn pass(&mut self, data: &mut [u8]) {
        let mut at = 0;
        while let Some(first) = data.get(at).copied() {
            let taken = match &mut self.place {
                Place::Lost => return,
                Place::Preface(have) => {
                    if PREFACE.get(*have) != Some(&first) {
                        self.place = Place::Lost;
                        return;
                    }
                    *have += 1;
                    if *have == PREFACE.len() {
                        self.place = Place::frame();
                    }
                    1
                }
                Place::Header { bytes, have } => {
                    bytes[*have] = first;
                    *have += 1;
                    if *have == HEADER {
                        let bytes = *bytes;
                        self.enter(bytes);
                    }
                    1
                }
                Place::Skip(left) => {
                    let taken = (*left).min(data.len() - at);
                    *left -= taken;
                    if *left == 0 {
                        self.place = Place::frame();
                    }
                    taken
                }
                Place::PadLength { left, skip } => {
                    let (left, skip, padding) = (*left - 1, *skip, usize::from(first));
                    self.before(left, skip, padding);
                    1
                }
                Place::Before { left, skip, padding } => {
                    let taken = (*skip).min(data.len() - at);
                    let (left, skip, padding) = (*left - taken, *skip - taken, *padding);
                    self.before(left, skip, padding);
                    taken
                }
                Place::Block { left, padding } => {
                    let taken = (*left).min(data.len() - at);
                    self.blocks.pass(&mut data[at..at + taken]);
                    *left -= taken;
                    if *left == 0 {
                        let padding = *padding;
                        self.leave(padding);
                    }
                    taken
                }
            };
            at += taken;
        }
    }

    /// The header of a frame is complete.
    fn enter(&mut self, header: [u8; HEADER]) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let (kind, flags) = (header[3], header[4]);
        self.count(kind, length);
        if kind != HEADERS && kind != CONTINUATION {
            self.place = if length == 0 { Place::frame() } else { Place::Skip(length) };
            return;
        }
        self.last = flags & END_HEADERS != 0;
        if kind == HEADERS {
            self.blocks_begun = self.blocks_begun.wrapping_add(1);
        }
        let skip = if kind == HEADERS && flags & PRIORITY != 0 { 5 } else { 0 };
        match kind == HEADERS && flags & PADDED != 0 {
            true if length == 0 => self.place = Place::Lost,
            true => self.place = Place::PadLength { left: length, skip },
            false => self.before(length, skip, 0),
        }
    }

    /// `left` bytes of the frame remain: bytes to skip, the block, the padding.
    fn before(&mut self, left: usize, skip: usize, padding: usize) {
        self.place = match left.checked_sub(skip + padding) {
            None => Place::Lost,
            Some(_) if skip > 0 => Place::Before { left, skip, padding },
            Some(0) => return self.leave(padding),
            Some(block) => Place::Block { left: block, padding },
        };
    }

    /// The header block's part in this frame has ended.
    fn leave(&mut self, padding: usize) {
        if self.last {
            self.blocks.end();
        }
        self.place = if padding == 0 { Place::frame() } else { Place::Skip(padding) };
    }
}

impl Place {
    fn frame() -> Self {
        Self::Header { bytes: [0; HEADER], have: 0 }
    }
}
