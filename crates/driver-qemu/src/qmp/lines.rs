//! QMP's messages as lines: one JSON text each.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message, in bytes. The longest known message of QEMU, its schema, has about 200 KiB.
pub(super) const LINE_LIMIT: usize = 16 << 20;
/// How much is read at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// The usual reason for an end.
const CLOSED: &str = "QEMU closed the connection";

/// Reads lines. Dropping [`Lines::next`] loses nothing.
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The part of the buffer that is known to contain no line's end.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::with_capacity(CHUNK), searched: 0 }
    }

    /// Returns the next line that is not empty, without its end; fails with the reason if there is
    /// none.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(line) = self.take() {
                if !line.trim_ascii().is_empty() {
                    return Ok(line);
                }
                continue;
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(format!("it sent a message of more than {} MiB", LINE_LIMIT >> 20));
            }
            self.buffer.reserve(CHUNK);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Err(CLOSED.to_owned()),
                // QEMU closed with unread data, which can be the line's end after `quit`.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(CLOSED.to_owned());
                }
                Ok(0) => {
                    return Err("QEMU closed the connection in the middle of a message".to_owned());
                }
                Ok(_) => {}
                Err(error) => return Err(format!("the connection failed: {error}")),
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line: Vec<u8> = self.buffer.drain(..=self.searched + found).collect();
        self.searched = 0;
        line.pop();
        Some(line)
    }
}
