//! Configuration of the driver `serial`.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ByteSize, SerialFlowControl, SerialParity, SerialSettings};

use crate::address::SerialAddress;

/// A serial port: a terminal device, one of a terminal server, a loopback, or raw bytes over TCP or
/// a Unix socket.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SerialConfig {
    /// Address of the port, such as `/dev/ttyUSB0`, `rfc2217://host:port` or `socket://host:port`.
    ///
    /// Others are `hwgrep://0403:6001` (a device by its USB ids), `loop://` and `unix:///path`.
    pub url: SerialAddress,
    /// Bits per second. This and the next four are for terminal devices and RFC 2217.
    #[serde(default = "default_baudrate")]
    pub baudrate: u32,
    /// Bits of a character: 5 to 8.
    #[serde(default = "default_data_bits")]
    pub data_bits: u8,
    /// The parity bit: `none`, `odd` or `even`.
    #[serde(default = "default_parity")]
    pub parity: SerialParity,
    /// Stop bits: 1 or 2.
    #[serde(default = "default_stop_bits")]
    pub stop_bits: u8,
    /// How each end makes the other wait: `none`, `software` (XON and XOFF) or `hardware` (RTS and
    /// CTS).
    #[serde(default = "default_flow_control")]
    pub flow_control: SerialFlowControl,
    /// Refuse to open the exporter while the device cannot be opened. If false, the first
    /// connection reports it. Terminal devices only; any port with `scrollback`.
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
    /// A file to which everything that the device says is appended, each line with its time. The
    /// device then stays open as long as the driver.
    #[serde(default)]
    pub log_file: Option<HostPath>,
    /// The size at which the log file becomes `.1`, and a new one begins; 0 is no limit.
    #[serde(default = "default_log_max_size")]
    pub log_max_size: ByteSize,
    /// How many older log files are kept.
    #[serde(default = "default_log_files")]
    pub log_files: u32,
    /// Log between the leases of a lab, too: the device then stays open until the exporter ends.
    /// Clients of the next lease do not get what it said before.
    #[serde(default)]
    pub log_between_leases: bool,
    /// Open a device again that went away: clients stay connected. If false, their connections end.
    #[serde(default = "default_reconnect")]
    pub reconnect: bool,
}

const fn default_log_max_size() -> ByteSize {
    ByteSize::mebibytes(10)
}

const fn default_log_files() -> u32 {
    5
}

const fn default_reconnect() -> bool {
    true
}

const fn default_baudrate() -> u32 {
    115_200
}

const fn default_data_bits() -> u8 {
    8
}

const fn default_parity() -> SerialParity {
    SerialParity::None
}

const fn default_stop_bits() -> u8 {
    1
}

const fn default_flow_control() -> SerialFlowControl {
    SerialFlowControl::None
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
            data_bits: default_data_bits(),
            parity: default_parity(),
            stop_bits: default_stop_bits(),
            flow_control: default_flow_control(),
            check_present: default_check_present(),
            cps: None,
            disable_hupcl: false,
            scrollback: ByteSize::default(),
            log_file: None,
            log_max_size: default_log_max_size(),
            log_files: default_log_files(),
            log_between_leases: false,
            reconnect: default_reconnect(),
        }
    }

    /// The settings of the line, all of them.
    pub(crate) fn settings(&self) -> SerialSettings {
        SerialSettings {
            baudrate: Some(self.baudrate),
            data_bits: Some(self.data_bits),
            parity: Some(self.parity),
            stop_bits: Some(self.stop_bits),
            flow_control: Some(self.flow_control),
        }
    }

    /// Whether the device is open without a client, too.
    pub(crate) fn is_held(&self) -> bool {
        let wanted = self.scrollback.as_bytes() > 0 || self.log_file.is_some();
        wanted && self.url != SerialAddress::Loop
    }
}
