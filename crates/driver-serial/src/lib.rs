//! Serial ports, shared consoles, and scripted conversations.
//!
//! - [`SerialPort`], the driver `serial`: a terminal device, `loop://`, `socket://host:port`,
//!   `rfc2217://host:port` or `unix:///path` ([`SerialConfig`] in exporter files). Its clients
//!   share the device.
//! - [`Rfc2217Server`] lets other programs use a port.
//! - [`ConsoleLog`] holds a console that accepts only one client, keeps its recent output, and
//!   shares it.
//! - [`ConsoleShell`] runs commands over a console, and passes files.
//! - [`Console`], made by [`SerialExt::expect`], waits for text and sends text:
//!
//! ```
//! use std::time::Duration;
//! use jumpstarter_driver_core::prelude::*;
//! use jumpstarter_driver_serial::{SerialExt, SerialPort};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let port = SerialPort::loopback();
//! let mut console = port.expect().await?;
//! console.send("version 1.2\r\n").await?;
//! let found = console.wait_for_regex(r"version (\S+)\r", Duration::from_secs(10)).await?;
//! assert_eq!(found.group(1).as_deref(), Some("1.2"));
//! # Ok(()) }
//! ```

mod address;
mod ansi;
mod config;
mod connection;
mod console_log;
mod console_reader;
mod console_state;
mod driver;
mod expect;
mod hwgrep;
mod log_file;
mod login;
mod paced;
mod pattern;
mod port;
mod present;
mod replay;
mod rfc2217;
mod scrollback;
mod sharing;
mod shell;
mod source;
mod tty;
mod visible;

pub use address::SerialAddress;
pub use config::SerialConfig;
pub use console_log::{ConsoleLog, ConsoleNotes, Reconnect, SCROLLBACK};
pub use console_reader::{ConsoleChunk, ConsoleReader, ConsoleWriter, ReadFrom};
pub use expect::{Console, SerialExt};
pub use hwgrep::DevicePattern;
pub use pattern::{Match, Pattern};
pub use port::SerialPort;
pub use present::serial_devices;
pub use rfc2217::Rfc2217Server;
pub use shell::{CommandOutput, ConsoleShell, Credentials};
