//! Configuration of the driver `serial`.

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
        }
    }
}
