//! The way to the device: opens it, and sets its lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

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

/// The device of a port.
pub(crate) struct Source {
    pub(crate) config: SerialConfig,
    pub(crate) connections: Connections,
    terminal: Mutex<Terminal>,
}

/// The terminal device's open connection, if there is one, and the levels that lines were set to.
#[derive(Default)]
struct Terminal {
    slot: Weak<Slot<Paced<Tty>>>,
    lines: Lines,
}

impl Source {
    pub(crate) fn new(config: SerialConfig) -> Self {
        Self { config, connections: Connections::default(), terminal: Mutex::default() }
    }

    fn terminal(&self) -> MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the levels that lines were set to.
    pub(crate) fn forget_lines(&self) {
        self.terminal().lines = Lines::default();
    }

    fn channel<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: T) -> Channel {
        Channel::from_io(self.connections.open(Paced::new(stream, self.config.cps)))
    }

    async fn open_terminal(&self, path: &Path, lines: Lines) -> Result<Tty> {
        let permit = timeout(IN_USE_DEADLINE, permits_of(path).acquire_owned()).await;
        let permit = permit.map_err(|_| occupied(path))?;
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

    fn no_line(&self, wanted: Lines) -> Error {
        let line = if wanted.dtr.is_some() { "DTR" } else { "RTS" };
        Error::unimplemented(format!("{} has no {line} line", self.config.url))
    }

    pub(crate) async fn set_lines(&self, wanted: Lines) -> Result<()> {
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

    /// Opens the device.
    pub(crate) async fn open(&self) -> Result<Channel> {
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
}

/// The error where another connection of this program still holds the permit.
fn occupied(path: &Path) -> Error {
    let by = "another driver of this program has it open";
    Error::failed_precondition(format!("serial device {} is in use: {by}", path.display()))
        .with_hint("describe the device once, and refer to it by `ref` elsewhere")
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
