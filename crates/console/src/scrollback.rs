//! The last bytes of a console, addressed by their offset since its beginning.

use std::collections::VecDeque;

/// A bounded buffer of the last bytes; older ones are dropped and counted.
#[derive(Debug)]
pub(crate) struct Scrollback {
    bytes: VecDeque<u8>,
    capacity: usize,
    dropped: u64,
}

impl Scrollback {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity: capacity.max(1), dropped: 0 }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().saturating_sub(self.capacity);
        let kept = &bytes[skipped..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
        self.dropped += (skipped + excess) as u64;
    }

    /// The offset of the oldest byte that is still here: how many were dropped.
    pub(crate) fn start(&self) -> u64 {
        self.dropped
    }

    /// The offset after the newest byte: how many there were in all.
    pub(crate) fn end(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }

    /// Up to `most` bytes from `offset`, which is clamped to what is here.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Vec<u8> {
        let from = (offset.clamp(self.start(), self.end()) - self.dropped) as usize;
        let to = self.bytes.len().min(from.saturating_add(most));
        self.bytes.range(from..to).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_oldest_and_counts() {
        let mut log = Scrollback::new(4);
        log.append(b"abc");
        log.append(b"def");
        assert_eq!((log.start(), log.end(), log.read(0, 99)), (2, 6, b"cdef".to_vec()));
        log.append(b"0123456789");
        assert_eq!((log.start(), log.end(), log.read(0, 99)), (12, 16, b"6789".to_vec()));
        assert_eq!(log.read(14, 1), b"8");
        assert_eq!(log.read(99, 1), b"");
    }
}
