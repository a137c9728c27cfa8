//! Consoles of devices, whatever carries them: channels of text in both directions.
//!
//! - [`ConsoleLog`] holds a console that accepts only one client, keeps its recent output, and
//!   shares it.
//! - [`Console`], made by [`SerialExt::expect`], waits for text and sends text.
//! - [`Script`] is a conversation as a value: steps, deadlines, captures. Files have it, too.
//! - [`ConsoleShell`] runs commands over a console, and passes files.
//!
//! ```
//! use std::time::Duration;
//! use jumpstarter_console::Console;
//! use jumpstarter_driver_core::{Channel, Framing, Result};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let (mut device, ours) = Channel::pair(Framing::Bytes);
//! let mut console = Console::new(ours);
//! device.send("version 1.2\r\n").await?;
//! let found = console.wait_for_regex(r"version (\S+)\r", Duration::from_secs(10)).await?;
//! assert_eq!(found.group(1).as_deref(), Some("1.2"));
//! # Ok(()) }
//! ```

mod ansi;
mod expect;
mod key;
mod log;
mod log_file;
mod login;
mod pattern;
mod reader;
mod replay;
mod script;
mod scrollback;
mod shell;
mod state;
mod visible;

pub use expect::{Console, SerialExt};
pub use log::{ConsoleLog, ConsoleNotes, Reconnect, SCROLLBACK};
pub use pattern::{Match, Pattern};
pub use reader::{ConsoleChunk, ConsoleReader, ConsoleWriter, ReadFrom};
pub use script::{Script, ScriptOutcome};
pub use shell::{CommandOutput, ConsoleShell, Credentials};
