//! Converts bytes that arrive in pieces to text.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The most bytes of one read.
const PIECE: usize = 16 * 1024;

/// One output of a program, as text: a character that a read splits comes with the next one, and
/// invalid UTF-8 is replaced.
#[derive(Debug)]
pub(crate) struct Output<R> {
    pipe: Option<R>,
    buffer: Vec<u8>,
    /// The beginning of a character.
    cut: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub(crate) fn new(pipe: Option<R>) -> Self {
        Self { pipe, buffer: vec![0; PIECE], cut: Vec::new() }
    }

    /// Whether more may follow.
    pub(crate) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Returns the next text; empty if only a part of a character arrived, and at the end.
    /// Cancelling loses nothing.
    pub(crate) async fn read(&mut self) -> String {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let count = match pipe.read(&mut self.buffer).await {
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "the output of a script cannot be read");
                0
            }
        };
        if count == 0 {
            self.pipe = None;
            return String::from_utf8_lossy(&std::mem::take(&mut self.cut)).into_owned();
        }
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(&self.buffer[..count]);
        self.cut = bytes.split_off(whole(&bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The number of bytes before a character that is split at the end.
fn whole(bytes: &[u8]) -> usize {
    // A character has at most four bytes.
    let from = bytes.len().saturating_sub(3);
    for start in from..bytes.len() {
        let is_cut = std::str::from_utf8(&bytes[start..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
        if is_cut {
            return start;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expected: &str) {
        for size in 1..=bytes.len() {
            let mut output = Output::new(Some(bytes));
            output.buffer = vec![0; size];
            let mut text = String::new();
            while output.is_open() {
                text += &output.read().await;
            }
            assert_eq!(text, expected, "{size} bytes at once");
        }
    }

    #[tokio::test]
    async fn characters_come_whole_however_the_bytes_are_cut() {
        check("a größe: 12 € 🦀!".as_bytes(), "a größe: 12 € 🦀!").await;
        check(b"a\xffb\xe2\x82", "a\u{fffd}b\u{fffd}").await;
    }
}
