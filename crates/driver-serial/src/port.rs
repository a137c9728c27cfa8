//! The driver `serial`: one port, opened anew for each connection.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::address::SerialAddress;
use crate::config::SerialConfig;
use crate::connection::{Connections, Slot};
use crate::paced::Paced;
use crate::tty::{Lines, Tty};

/// How long opening a socket may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a second user of a terminal waits for the first to leave: closing takes a moment, a
/// session longer.
const IN_USE_DEADLINE: Duration = Duration::from_secs(2);
/// What a loopback holds before its writer has to wait.
const LOOP_BYTES: usize = 64 * 1024;

/// A serial port.
///
/// Every [`Serial::connect`] opens it. A terminal device serves one connection at a time, of all
/// ports of this program that lead to it, and no other process meanwhile: two readers would each
/// get only a part of the bytes. (To share one, see [`ConsoleLog`](crate::ConsoleLog).) The second
/// user waits 2 s for the first to leave and then gets `FailedPrecondition`. Loopbacks and sockets
/// are not limited.
///
/// Errors of `connect`: `NotFound` (no such device or socket), `PermissionDenied`,
/// `FailedPrecondition` (in use), `InvalidArgument` (not a terminal), `Unavailable` (nothing
/// listens), `DeadlineExceeded` (no answer in 10 s). Cancelling it leaves the port closed.
pub struct SerialPort {
    config: SerialConfig,
    connections: Connections,
    terminal: Mutex<Terminal>,
}

/// The terminal device's open connection, if there is one, and the levels that lines were set to.
#[derive(Default)]
struct Terminal {
    slot: Weak<Slot<Paced<Tty>>>,
    since: Option<Instant>,
    lines: Lines,
}

impl SerialPort {
    /// The port of a configuration; opens nothing yet. Its `check_present` is for
    /// [`DriverConfig::open`].
    pub fn new(config: SerialConfig) -> Self {
        Self { config, connections: Connections::default(), terminal: Mutex::default() }
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
        &self.config.url
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections.count()
    }

    fn terminal(&self) -> std::sync::MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: T) -> Channel {
        Channel::from_io(self.connections.open(Paced::new(stream, self.config.cps)))
    }

    async fn open_terminal(&self, path: &Path, lines: Lines) -> Result<Tty> {
        let permit = timeout(IN_USE_DEADLINE, permits_of(path).acquire_owned()).await;
        let permit = permit.map_err(|_| self.occupied(path))?;
        let permit =
            permit.map_err(|_| Error::internal("the permit of a serial port was closed"))?;
        let (path, baudrate, keep) =
            (path.to_owned(), self.config.baudrate, self.config.disable_hupcl);
        // The permit goes along: should this call be cancelled, the port is closed when the thread
        // has opened it.
        let opening =
            tokio::task::spawn_blocking(move || Tty::open(&path, baudrate, keep, lines, permit));
        opening
            .await
            .map_err(|error| Error::internal("opening a serial device").with_source(error))?
    }

    /// The error where another connection still holds the permit: one of this port, or of another
    /// port of this program.
    fn occupied(&self, path: &Path) -> Error {
        let terminal = self.terminal();
        let own = terminal.since.filter(|_| terminal.slot.strong_count() > 0);
        let (by, hint) = match own {
            Some(since) => (
                format!("connected {} s ago", since.elapsed().as_secs()),
                "end the other connection, or call `close` to end it from here",
            ),
            None => (
                "another driver of this program has it open".to_owned(),
                "describe the device once, and refer to it by `ref` elsewhere",
            ),
        };
        Error::failed_precondition(format!("serial device {} is in use: {by}", path.display()))
            .with_hint(hint)
    }

    fn no_line(&self, wanted: Lines) -> Error {
        let line = if wanted.dtr.is_some() { "DTR" } else { "RTS" };
        Error::unimplemented(format!("{} has no {line} line", self.config.url))
    }

    async fn set_lines(&self, wanted: Lines) -> Result<()> {
        let path = match &self.config.url {
            SerialAddress::Device(path) => path,
            // Its lines lead to nothing: setting them succeeds, as with the Python driver.
            SerialAddress::Loop => return Ok(()),
            SerialAddress::Tcp { .. } | SerialAddress::Unix(_) => return Err(self.no_line(wanted)),
        };
        let slot = self.terminal().slot.upgrade();
        let set_on_open =
            slot.and_then(|slot| slot.with(|stream| stream.get_mut().set_lines(wanted)));
        match set_on_open {
            Some(done) => done?,
            None => drop(self.open_terminal(path, wanted).await?),
        }
        let mut terminal = self.terminal();
        terminal.lines.dtr = wanted.dtr.or(terminal.lines.dtr);
        terminal.lines.rts = wanted.rts.or(terminal.lines.rts);
        Ok(())
    }
}

/// The permit of a device: one for all ports of this program that lead to it, also those that were
/// dropped and are still being closed.
fn permits_of(path: &Path) -> Arc<Semaphore> {
    static TURNS: Mutex<BTreeMap<PathBuf, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());
    let device = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut known = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, permits| permits.strong_count() > 0);
    if let Some(permits) = known.get(&device).and_then(Weak::upgrade) {
        return permits;
    }
    let permits = Arc::new(Semaphore::new(1));
    known.insert(device, Arc::downgrade(&permits));
    permits
}

#[async_trait]
impl Serial for SerialPort {
    async fn connect(&self) -> Result<Channel> {
        let doing = || format!("connecting to serial port {}", self.config.url);
        let late = |_| {
            Error::deadline_exceeded(format!("no answer within {} s", CONNECT_DEADLINE.as_secs()))
        };
        match &self.config.url {
            SerialAddress::Device(path) => {
                let lines = self.terminal().lines;
                let tty = self.open_terminal(path, lines).await?;
                let connection = self.connections.open(Paced::new(tty, self.config.cps));
                let mut terminal = self.terminal();
                terminal.slot = connection.slot();
                terminal.since = Some(Instant::now());
                drop(terminal);
                Ok(Channel::from_io(connection))
            }
            SerialAddress::Loop => {
                let (reader, writer) = tokio::io::simplex(LOOP_BYTES);
                Ok(self.channel(tokio::io::join(reader, writer)))
            }
            SerialAddress::Tcp { host, port } => {
                let stream =
                    timeout(CONNECT_DEADLINE, TcpStream::connect((host.as_str(), *port))).await;
                let stream = stream.map_err(late).with_context(doing)?.with_context(doing)?;
                // Keystrokes are small and wait for an echo.
                stream.set_nodelay(true).with_context(doing)?;
                Ok(self.channel(stream))
            }
            SerialAddress::Unix(path) => {
                let stream = timeout(CONNECT_DEADLINE, UnixStream::connect(path)).await;
                Ok(self.channel(stream.map_err(late).with_context(doing)?.with_context(doing)?))
            }
        }
    }

    /// Takes effect at once, even without a connection (the device is then opened for a moment),
    /// and again whenever the device is opened. `disable_hupcl` decides what the system does to the
    /// lines when it closes the device.
    async fn set_dtr(&self, level: bool) -> Result<()> {
        self.set_lines(Lines { dtr: Some(level), rts: None }).await
    }

    /// As [`set_dtr`](Serial::set_dtr).
    async fn set_rts(&self, level: bool) -> Result<()> {
        self.set_lines(Lines { dtr: None, rts: Some(level) }).await
    }

    async fn close(&self) -> Result<()> {
        self.connections.end_all();
        Ok(())
    }
}

#[async_trait]
impl Driver for SerialPort {
    interfaces!(Serial);

    /// Forgets the levels that lines were set to. Connections stay.
    async fn reset(&self) -> Result<()> {
        self.terminal().lines = Lines::default();
        Ok(())
    }

    /// Ends every connection. The port can be opened again.
    async fn close(&self) -> Result<()> {
        self.connections.end_all();
        Ok(())
    }
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialPort({}, {:?})", self.config.url, self.connections)
    }
}
