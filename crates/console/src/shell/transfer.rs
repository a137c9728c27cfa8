//! Files over the console, in pieces with checksums.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::{Error, Result};
use tokio::time::Instant;

use super::ConsoleShell;
use super::words::sha256;

/// The bytes of a line that is typed.
const TYPED: usize = 450;
/// A block that is read has a multiple of these bytes.
const UNIT: usize = 96;
/// The most units of a block. A damaged one is asked for again in half the size, so that it fits
/// between the kernel's messages.
const MOST_UNITS: usize = 16;
/// How often in a row blocks may be damaged.
const TRIES: usize = 20;

impl ConsoleShell {
    /// Writes `bytes` to `path`, which is one word of the shell.
    pub(super) async fn send_file(
        &mut self,
        bytes: &[u8],
        path: &str,
        until: Instant,
    ) -> Result<()> {
        self.succeed(&format!(": >{path}"), until).await?;
        for (index, piece) in bytes.chunks(TYPED).enumerate() {
            let text = STANDARD.encode(piece);
            self.succeed(
                &format!(
                    "printf %s {text}|base64 -d|\
                     dd of={path} bs={TYPED} seek={index} conv=notrunc 2>/dev/null"
                ),
                until,
            )
            .await?;
        }
        let sum = sha256(bytes);
        self.succeed(&format!("[ \"$(sha256sum <{path})\" = \"{sum}  -\" ]"), until).await
    }

    /// Reads `path`, which is one word of the shell.
    pub(super) async fn fetch_file(&mut self, path: &str, until: Instant) -> Result<Vec<u8>> {
        let (sum, length) = self.sum_of(path, until).await?;
        let mut bytes = Vec::new();
        let (mut units, mut tries) = (MOST_UNITS, 0);
        while bytes.len() < length {
            match self.fetch_block(path, bytes.len() / UNIT, units, until).await? {
                Some(block) if block.is_empty() => break,
                Some(block) => {
                    bytes.extend(block);
                    (units, tries) = ((units * 2).min(MOST_UNITS), 0);
                }
                None if tries == TRIES => {
                    let message = format!("a block was damaged {TRIES} times");
                    return Err(Error::data_loss(message));
                }
                None => (units, tries) = ((units / 2).max(1), tries + 1),
            }
        }
        match bytes.len() == length && sha256(&bytes) == sum {
            true => Ok(bytes),
            false => Err(Error::data_loss("the file changed while it was read")),
        }
    }

    /// Reads a block; `None` if it was damaged on its way.
    async fn fetch_block(
        &mut self,
        path: &str,
        skip: usize,
        count: usize,
        until: Instant,
    ) -> Result<Option<Vec<u8>>> {
        let read = format!("dd if={path} bs={UNIT} skip={skip} count={count} 2>/dev/null");
        let line = |number: u32| {
            format!(" echo @A\"{number}@\";{read}|base64;echo @B\"{number}:$({read}|sha256sum)@\"")
        };
        let answer =
            |number: u32| format!(r"(?s-u)@A{number}@(.*?)@B{number}:([0-9a-f]{{64}})  -@");
        let found = self.query(line, answer, until).await?;
        // Lines in between are the kernel's.
        let is_data = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let text: String = found
            .group(1)
            .unwrap_or_default()
            .lines()
            .map(str::trim)
            .filter(|line| line.bytes().all(is_data))
            .collect();
        let sum = found.group(2);
        Ok(STANDARD.decode(text).ok().filter(|bytes| sum.as_deref() == Some(&sha256(bytes))))
    }

    /// The checksum and the length of `path`.
    async fn sum_of(&mut self, path: &str, until: Instant) -> Result<(String, usize)> {
        let line =
            |number: u32| format!(" echo @V\"{number}:$(sha256sum <{path}):$(wc -c <{path})@\"");
        let answer = |number: u32| format!(r"(?-u)@V{number}:([0-9a-f]{{64}})  -: *(\d+)@");
        let found = self.query(line, answer, until).await?;
        let length = found.group(2).and_then(|text| text.parse().ok());
        let (Some(sum), Some(length)) = (found.group(1), length) else {
            return Err(Error::data_loss("the device's checksum is no checksum"));
        };
        Ok((sum.into_owned(), length))
    }

    /// Runs a line that must succeed.
    async fn succeed(&mut self, line: &str, until: Instant) -> Result<()> {
        match self.ask(line, until).await? {
            0 => Ok(()),
            code => Err(Error::failed_precondition(format!(
                "the device cannot write a file (code {code})"
            ))),
        }
    }
}
