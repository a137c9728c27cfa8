//! The board's protocol: it answers the line `7 set 1 on` with `7 ok`, or with `7` and what is
//! wrong. The number is the caller's, so that the answer to a call that was cancelled is never
//! taken for another one's.

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

/// How long the board may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// An open board. One command at a time.
#[derive(Debug)]
pub(crate) struct Board(Mutex<Option<Link>>);

#[derive(Debug)]
struct Link {
    port: BufReader<SerialStream>,
    /// The number of the last command.
    number: u32,
}

impl Board {
    /// Opens the board's port.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let doing = || format!("opening the relay board at {}", path.display());
        let port = tokio_serial::new(path.to_string_lossy(), 115_200).open_native_async();
        let port = port.map_err(std::io::Error::from).with_context(doing)?;
        Ok(Self(Mutex::new(Some(Link { port: BufReader::new(port), number: 0 }))))
    }

    /// Switches a channel, and waits for the board to say that it did.
    pub(crate) async fn set(&self, channel: u8, on: bool) -> Result<()> {
        let doing = || format!("switching relay {channel} {}", if on { "on" } else { "off" });
        let mut link = self.0.lock().await;
        let link =
            link.as_mut().ok_or_else(|| Error::failed_precondition("the board is closed"))?;
        let answer = tokio::time::timeout(DEADLINE, link.ask(channel, on)).await;
        let answer = answer
            .map_err(|_| Error::deadline_exceeded("the board did not answer").context(doing()))?;
        match answer.with_context(doing)?.trim() {
            "ok" => Ok(()),
            other => Err(Error::internal(format!("the board says `{other}`")).context(doing())),
        }
    }

    /// Closes the port.
    pub(crate) async fn close(&self) {
        *self.0.lock().await = None;
    }
}

impl Link {
    async fn ask(&mut self, channel: u8, on: bool) -> std::io::Result<String> {
        self.number = self.number.wrapping_add(1);
        let own = format!("{} ", self.number);
        // The line feed in front ends what a cancelled call may have begun.
        let command = format!("\n{own}set {channel} {}\n", if on { "on" } else { "off" });
        self.port.write_all(command.as_bytes()).await?;
        let mut line = String::new();
        while self.port.read_line(&mut line).await? > 0 {
            if let Some(answer) = line.strip_prefix(&own) {
                return Ok(answer.to_owned());
            }
            line.clear();
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}
