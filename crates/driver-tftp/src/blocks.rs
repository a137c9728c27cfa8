//! A file in blocks.

use std::fs::File;
use std::io::{self, BufReader, Read};

/// Reads a file in blocks of one size; the last one is shorter, and may be empty.
pub(crate) struct Blocks {
    file: BufReader<File>,
    size: usize,
    is_text: bool,
    /// What a line's end became beyond the end of a block.
    carried: Option<u8>,
    is_done: bool,
}

impl Blocks {
    pub(crate) fn new(file: File, size: usize, is_text: bool) -> Self {
        let file = BufReader::with_capacity(size.max(64 * 1024), file);
        Self { file, size, is_text, carried: None, is_done: false }
    }

    /// The next block; `None` after the last one. Blocks the thread.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.is_done {
            return Ok(None);
        }
        let mut block = Vec::with_capacity(self.size);
        match self.is_text {
            true => self.read_text(&mut block)?,
            false => drop((&mut self.file).take(self.size as u64).read_to_end(&mut block)?),
        }
        self.is_done = block.len() < self.size;
        Ok(Some(block))
    }

    /// Lines end with CR LF, and a CR that ends none is CR NUL (RFC 764).
    fn read_text(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        block.extend(self.carried.take());
        while block.len() < self.size {
            let mut byte = [0];
            if self.file.read(&mut byte)? == 0 {
                return Ok(());
            }
            let pair = match byte[0] {
                b'\n' => [b'\r', b'\n'],
                b'\r' => [b'\r', 0],
                other => {
                    block.push(other);
                    continue;
                }
            };
            block.push(pair[0]);
            match block.len() < self.size {
                true => block.push(pair[1]),
                false => self.carried = Some(pair[1]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn check(content: &[u8], size: usize, is_text: bool, expected: &[&[u8]]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        let mut blocks = Blocks::new(file, size, is_text);
        let found: Vec<_> = std::iter::from_fn(|| blocks.next().unwrap()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_block_is_shorter() {
        check(b"", 4, false, &[b""]);
        check(b"abc", 4, false, &[b"abc"]);
        check(b"abcd", 4, false, &[b"abcd", b""]);
        check(b"abcde", 4, false, &[b"abcd", b"e"]);
    }

    #[test]
    fn text_has_the_line_ends_of_the_wire() {
        check(b"a\nb\rc", 8, true, &[b"a\r\nb\r\0c"]);
        check(b"a\nb\rc", 2, true, &[b"a\r", b"\nb", b"\r\0", b"c"]);
        check(b"abc\n", 4, true, &[b"abc\r", b"\n"]);
        check(b"ab\n", 4, true, &[b"ab\r\n", b""]);
    }
}
