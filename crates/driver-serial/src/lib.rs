//! Serial ports.
//!
//! - [`SerialPort`], the driver `serial`: a terminal device, `loop://`, `socket://host:port`,
//!   `rfc2217://host:port` or `unix:///path` ([`SerialConfig`] in exporter files). Its clients
//!   share the device.
//! - [`Rfc2217Server`] lets other programs use a port.
//!
//! What is done with a port is in the crate `jumpstarter-console`.

mod address;
mod config;
mod connection;
mod driver;
mod hwgrep;
mod kept;
mod paced;
mod port;
mod present;
mod rfc2217;
mod sharing;
mod source;
mod tty;

pub use address::SerialAddress;
pub use config::SerialConfig;
pub use hwgrep::DevicePattern;
pub use port::SerialPort;
pub use present::serial_devices;
pub use rfc2217::Rfc2217Server;
