//! Configuration of the driver `serial`.

use jumpstarter_driver_core::ByteSize;
use jumpstarter_driver_core::prelude::*;

use crate::address::SerialAddress;

/// A serial port: a terminal device, a loopback, or raw bytes over TCP or a Unix socket.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SerialConfig {
    /// Address of the port: `/dev/ttyUSB0`, `loop://`, `socket://host:port` or `unix:///path`.
    pub url: SerialAddress,
    /// Bits per second. Terminal devices only.
    #[serde(default = "default_baudrate")]
    pub baudrate: u32,
    /// Refuse to open the exporter while the device is missing. If false, the first connection
    /// reports it. Terminal devices only.
    #[serde(default = "default_check_present")]
    pub check_present: bool,
    /// The most characters per second that are written, for devices that lose fast input. No limit
    /// by default, or for 0.
    #[serde(default)]
    pub cps: Option<f64>,
    /// Leave the DTR and RTS lines unchanged when the port is closed, so that boards which reset on
    /// a falling DTR continue to run. Terminal devices only.
    #[serde(default)]
    pub disable_hupcl: bool,
    /// How much of the recent output each client gets first. The device then stays open as long as
    /// the driver. 0, the default, is none: the device is open while it has a client.
    #[serde(default)]
    pub scrollback: ByteSize,
    /// Open a device again that went away: clients stay connected. If false, their connections end.
    #[serde(default = "default_reconnect")]
    pub reconnect: bool,
}

const fn default_reconnect() -> bool {
    true
}

const fn default_baudrate() -> u32 {
    115_200
}

const fn default_check_present() -> bool {
    true
}

impl SerialConfig {
    /// The port at `url` with the default of every other field.
    pub fn new(url: SerialAddress) -> Self {
        Self {
            url,
            baudrate: default_baudrate(),
            check_present: default_check_present(),
            cps: None,
            disable_hupcl: false,
            scrollback: ByteSize::default(),
            reconnect: default_reconnect(),
        }
    }

    /// Whether the device is open without a client, too.
    pub(crate) fn is_held(&self) -> bool {
        self.url != SerialAddress::Loop && self.scrollback.as_bytes() > 0
    }
}
