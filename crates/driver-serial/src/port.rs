//! The driver `serial`: one port, whose clients share the device.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::SerialSettings;
use jumpstarter_driver_core::prelude::*;

use crate::address::SerialAddress;
use crate::config::SerialConfig;
use crate::driver::wrong_settings;
use crate::kept;
use crate::sharing::Sharing;
use crate::source::Source;
use crate::tty::Lines;

/// The usual break.
const BREAK: Duration = Duration::from_millis(250);
/// A longer one is a mistake of units.
const LONGEST_BREAK: Duration = Duration::from_secs(10);

/// A serial port.
///
/// The first [`Serial::connect`] opens the device, later ones share it, and the last one to leave
/// closes it. Each client gets everything that the device says from its connection on, and writes
/// do not interleave. A client that reads too slowly loses bytes, with a note in their place; it
/// delays neither the device nor other clients. With [`SerialConfig::scrollback`] the device stays
/// open as long as the driver, and each client begins with the recent output.
///
/// A device that goes away is opened again when it is back, unless [`SerialConfig::reconnect`] is
/// false: clients stay, and notes in the stream mark the gap. A pseudo-terminal that is named by
/// its path in `/dev/pts` is not followed, since another one may get that path.
///
/// A terminal device is kept from other ports and processes meanwhile: two readers would each get
/// only a part of the bytes. Another user waits 2 s for the port to be closed and then gets
/// `FailedPrecondition`. Each connection to a loopback is separate.
///
/// Errors of `connect`: `NotFound` (no such device or socket), `PermissionDenied`,
/// `FailedPrecondition` (in use), `InvalidArgument` (not a terminal), `Unavailable` (nothing
/// listens), `DeadlineExceeded` (no answer in 10 s). Cancelling it leaves the port closed.
pub struct SerialPort {
    source: Arc<Source>,
    sharing: Arc<Sharing>,
}

impl SerialPort {
    /// The port of a configuration; opens nothing yet. What needs the device to be open before the
    /// first client, and `check_present`, is for [`DriverConfig::open`].
    pub fn new(config: SerialConfig) -> Self {
        let source = Arc::new(Source::new(config));
        Self { sharing: Arc::new(Sharing::new(Arc::clone(&source))), source }
    }

    /// Opens the device for as long as the driver is open, if the configuration asks for that;
    /// else only for a moment, to `probe` it.
    pub(crate) async fn open_driver(&self, probe: bool) -> Result<()> {
        if self.source.config.is_held() {
            return self.sharing.hold().await;
        }
        if probe {
            drop(self.source.open().await?);
        }
        Ok(())
    }

    /// Whether this is its configuration.
    pub(crate) fn has(&self, config: &SerialConfig) -> bool {
        self.source.config == *config
    }

    /// Begins anew on a device that stayed open: clients get what it says from now on.
    pub(crate) fn begin_anew(&self) {
        self.sharing.forget();
    }

    /// Ends every connection, and closes the device.
    pub(crate) fn end(&self) {
        self.sharing.close();
    }

    /// The port behind the Unix stream socket at `path`, such as a QEMU character device.
    pub fn unix_socket(path: impl Into<PathBuf>) -> Self {
        Self::new(SerialConfig::new(SerialAddress::Unix(path.into())))
    }

    /// A port that gives back what is written to it.
    pub fn loopback() -> Self {
        Self::new(SerialConfig::new(SerialAddress::Loop))
    }

    /// The terminal device at `path`, 115200 bits per second.
    pub fn device(path: impl Into<PathBuf>) -> Self {
        Self::new(SerialConfig::new(SerialAddress::Device(path.into().into())))
    }

    /// Where it is.
    pub fn address(&self) -> &SerialAddress {
        &self.source.config.url
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        match self.address() {
            SerialAddress::Loop => self.source.connections.count(),
            _ => self.sharing.clients(),
        }
    }
}

#[async_trait]
impl Serial for SerialPort {
    async fn connect(&self) -> Result<Channel> {
        match self.address() {
            SerialAddress::Loop => self.source.open().await,
            _ => self.sharing.connect().await,
        }
    }

    /// Takes effect at once, even without a connection (the device is then opened for a moment),
    /// and again whenever the device is opened. `disable_hupcl` decides what the system does to the
    /// lines when it closes the device.
    async fn set_dtr(&self, level: bool) -> Result<()> {
        self.source.set_lines(Lines { dtr: Some(level), rts: None }).await
    }

    /// As [`set_dtr`](Serial::set_dtr).
    async fn set_rts(&self, level: bool) -> Result<()> {
        self.source.set_lines(Lines { dtr: None, rts: Some(level) }).await
    }

    async fn send_break(&self, duration: Option<Span>) -> Result<()> {
        let duration = duration.map_or(BREAK, |duration| duration.as_duration());
        if duration > LONGEST_BREAK {
            let message = format!("a break takes at most {} s", LONGEST_BREAK.as_secs());
            return Err(Error::invalid_argument(message));
        }
        self.source.send_break(duration).await
    }

    async fn configure(&self, settings: SerialSettings) -> Result<SerialSettings> {
        if let Some(problem) = wrong_settings(settings).first() {
            let message = format!("`{}` {}", problem.field, problem.message);
            return Err(Error::invalid_argument(message));
        }
        self.source.configure(settings).await
    }

    async fn close(&self) -> Result<()> {
        self.sharing.hang_up();
        Ok(())
    }
}

#[async_trait]
impl Driver for SerialPort {
    interfaces!(Serial);

    /// Forgets the levels that lines were set to, and restores the settings. Connections stay.
    async fn reset(&self) -> Result<()> {
        self.source.restore().await
    }

    /// Ends every connection. The port can be opened again. With
    /// [`SerialConfig::log_between_leases`] the device stays open.
    async fn close(&self) -> Result<()> {
        if self.source.config.log_between_leases && self.sharing.is_held() {
            self.sharing.hang_up();
            let (source, sharing) = (Arc::clone(&self.source), Arc::clone(&self.sharing));
            kept::keep(Self { source, sharing });
        } else {
            self.end();
        }
        Ok(())
    }
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clients, bytes) = (self.open_connections(), self.sharing.total_bytes());
        write!(f, "SerialPort({}, {clients} open, {bytes} bytes)", self.address())
    }
}
