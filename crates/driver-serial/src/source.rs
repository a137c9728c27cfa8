//! The way to the device: opens it, and sets its lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{SerialSettings, blocking, keep_alive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::address::SerialAddress;
use crate::config::SerialConfig;
use crate::connection::{Connections, Slot};
use crate::paced::Paced;
use crate::rfc2217::{self, Remote};
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
    /// Held while the device is being opened, also for a moment: many terminal servers, and every
    /// terminal device, take one connection at a time.
    opening: tokio::sync::Mutex<()>,
    terminal: Mutex<Terminal>,
}

/// The terminal's open connection, if there is one, and the levels that lines were set to.
#[derive(Default)]
struct Terminal {
    slot: Weak<Slot<Paced<Tty>>>,
    /// The same of a terminal server.
    remote: Option<Arc<Remote>>,
    lines: Lines,
    /// Those of the configuration, and what was changed since.
    settings: SerialSettings,
}

impl Source {
    pub(crate) fn new(config: SerialConfig) -> Self {
        let terminal = Terminal { settings: config.settings(), ..Terminal::default() };
        Self {
            config,
            connections: Connections::default(),
            opening: tokio::sync::Mutex::default(),
            terminal: Mutex::new(terminal),
        }
    }

    fn terminal(&self) -> MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the levels that lines were set to, and restores the settings.
    pub(crate) async fn restore(&self) -> Result<()> {
        self.terminal().lines = Lines::default();
        match self.config.url {
            SerialAddress::Device(_) | SerialAddress::Grep(_) | SerialAddress::Rfc2217 { .. } => {
                self.configure(self.config.settings()).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Changes settings, also of the open connection, and returns all of them.
    pub(crate) async fn configure(&self, wanted: SerialSettings) -> Result<SerialSettings> {
        match &self.config.url {
            SerialAddress::Device(_) | SerialAddress::Grep(_) | SerialAddress::Rfc2217 { .. } => {}
            // Its line is none: every setting suits it.
            SerialAddress::Loop => {}
            SerialAddress::Tcp { .. } | SerialAddress::Unix(_) => {
                let message = format!("{} has no settings to change", self.config.url);
                return Err(Error::unimplemented(message));
            }
        }
        // A connection that is being opened has the old ones.
        let _turn = self.opening.lock().await;
        let settings = wanted.or(self.terminal().settings);
        self.with_tty(|tty| tty.configure(settings)).transpose()?;
        if let Some(remote) = self.remote() {
            remote.configure(wanted).await?;
        }
        self.terminal().settings = settings;
        Ok(settings)
    }

    /// Sends a break over the open connection.
    async fn break_on_open(&self, duration: Duration) -> Result<()> {
        if let Some(begun) = self.with_tty(|tty| tty.set_break(true)) {
            begun?;
            let _end = EndBreak(self);
            sleep(duration).await;
        }
        Ok(())
    }

    /// Sends a break over the open connection, or opens the device for a moment.
    pub(crate) async fn send_break(&self, duration: Duration) -> Result<()> {
        match &self.config.url {
            SerialAddress::Device(_) | SerialAddress::Grep(_) => {}
            SerialAddress::Loop => return Ok(()),
            SerialAddress::Rfc2217 { .. } => {
                return self.ask_remote(Request::Break(duration)).await;
            }
            SerialAddress::Tcp { .. } | SerialAddress::Unix(_) => {
                let message = format!("{} cannot send a break", self.config.url);
                return Err(Error::unimplemented(message));
            }
        }
        let _turn = self.opening.lock().await;
        if self.with_tty(|_| ()).is_some() {
            return self.break_on_open(duration).await;
        }
        // Dropping it ends the break.
        let lines = self.terminal().lines;
        let mut tty = self.open_terminal(lines).await?;
        tty.set_break(true)?;
        sleep(duration).await;
        tty.set_break(false)
    }

    /// The open connection to a terminal server.
    fn remote(&self) -> Option<Arc<Remote>> {
        self.terminal().remote.clone().filter(|remote| remote.is_open())
    }

    /// Asks a terminal server over the open connection, or over one for the moment.
    async fn ask_remote(&self, request: Request) -> Result<()> {
        let _turn = self.opening.lock().await;
        if let Some(remote) = self.remote() {
            let answer = request.ask(&remote).await;
            if answer.is_ok() || remote.is_open() {
                return answer;
            }
            // Its client has just left.
        }
        let (_connection, remote) = self.open_remote().await?;
        request.ask(&remote).await
    }

    /// Connects to a terminal server.
    async fn open_remote(&self) -> Result<(Channel, Arc<Remote>)> {
        let SerialAddress::Rfc2217 { host, port, ignore_control } = &self.config.url else {
            return Err(Error::internal("this port is no terminal server's"));
        };
        let doing = || format!("connecting to serial port {}", self.config.url);
        let stream = connect_tcp(host, *port).await.with_context(doing)?;
        let (lines, settings) = {
            let terminal = self.terminal();
            (terminal.lines, terminal.settings)
        };
        rfc2217::open(stream, settings, lines, *ignore_control).await.with_context(doing)
    }

    /// Runs `action` on the open terminal device, if it is open.
    fn with_tty<R>(&self, action: impl FnOnce(&mut Tty) -> R) -> Option<R> {
        let slot = self.terminal().slot.upgrade()?;
        slot.with(|stream| action(stream.get_mut()))
    }

    fn channel<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: T) -> Channel {
        Channel::from_io(self.connections.open(Paced::new(stream, self.config.cps)))
    }

    /// The path of the terminal device.
    async fn device(&self) -> Result<PathBuf> {
        match &self.config.url {
            SerialAddress::Device(path) => Ok(path.to_path_buf()),
            SerialAddress::Grep(pattern) => {
                let pattern = pattern.clone();
                blocking(move || pattern.find()).await
            }
            other => Err(Error::internal(format!("{other} is no terminal device"))),
        }
    }

    async fn open_terminal(&self, lines: Lines) -> Result<Tty> {
        let path = &*self.device().await?;
        let permit = timeout(IN_USE_DEADLINE, permits_of(path).acquire_owned()).await;
        let permit = permit.map_err(|_| occupied(path))?;
        let permit =
            permit.map_err(|_| Error::internal("the permit of a serial port was closed"))?;
        let (path, settings, keep) =
            (path.to_owned(), self.terminal().settings, self.config.disable_hupcl);
        // The permit goes along: should this call be cancelled, the port is closed when the thread
        // has opened it.
        let opening =
            tokio::task::spawn_blocking(move || Tty::open(&path, settings, keep, lines, permit));
        opening
            .await
            .map_err(|error| Error::internal("opening a serial device").with_source(error))?
    }

    fn no_line(&self, wanted: Lines) -> Error {
        let line = if wanted.dtr.is_some() { "DTR" } else { "RTS" };
        Error::unimplemented(format!("{} has no {line} line", self.config.url))
    }

    pub(crate) async fn set_lines(&self, wanted: Lines) -> Result<()> {
        match &self.config.url {
            SerialAddress::Device(_) | SerialAddress::Grep(_) => {}
            // Its lines lead to nothing: setting them succeeds, as with the Python driver.
            SerialAddress::Loop => return Ok(()),
            SerialAddress::Rfc2217 { .. } => {
                self.ask_remote(Request::Lines(wanted)).await?;
                self.remember(wanted);
                return Ok(());
            }
            SerialAddress::Tcp { .. } | SerialAddress::Unix(_) => return Err(self.no_line(wanted)),
        }
        let _turn = self.opening.lock().await;
        match self.with_tty(|tty| tty.set_lines(wanted)) {
            Some(done) => done?,
            None => drop(self.open_terminal(wanted).await?),
        }
        self.remember(wanted);
        Ok(())
    }

    /// Keeps levels for the next time that the device is opened.
    fn remember(&self, wanted: Lines) {
        let mut terminal = self.terminal();
        terminal.lines.dtr = wanted.dtr.or(terminal.lines.dtr);
        terminal.lines.rts = wanted.rts.or(terminal.lines.rts);
    }

    /// Opens the device.
    pub(crate) async fn open(&self) -> Result<Channel> {
        let doing = || format!("connecting to serial port {}", self.config.url);
        let _turn = self.opening.lock().await;
        match &self.config.url {
            SerialAddress::Device(_) | SerialAddress::Grep(_) => {
                let lines = self.terminal().lines;
                let tty = self.open_terminal(lines).await?;
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
                Ok(self.channel(connect_tcp(host, *port).await.with_context(doing)?))
            }
            SerialAddress::Rfc2217 { .. } => {
                let (channel, remote) = self.open_remote().await?;
                self.terminal().remote = Some(remote);
                Ok(self.channel(channel.into_io()?))
            }
            SerialAddress::Unix(path) => {
                let stream = timeout(CONNECT_DEADLINE, UnixStream::connect(path)).await;
                Ok(self
                    .channel(stream.map_err(no_answer).with_context(doing)?.with_context(doing)?))
            }
        }
    }
}

/// What is asked of a terminal server.
#[derive(Clone, Copy)]
enum Request {
    Lines(Lines),
    Break(Duration),
}

impl Request {
    async fn ask(self, remote: &Remote) -> Result<()> {
        match self {
            Self::Lines(lines) => remote.set_lines(lines).await,
            Self::Break(duration) => remote.send_break(duration).await,
        }
    }
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream> {
    let stream = timeout(CONNECT_DEADLINE, TcpStream::connect((host, port))).await;
    let stream = stream.map_err(no_answer)??;
    keep_alive(&stream)?;
    Ok(stream)
}

fn no_answer(_: tokio::time::error::Elapsed) -> Error {
    Error::deadline_exceeded(format!("no answer within {} s", CONNECT_DEADLINE.as_secs()))
}

/// Ends a break, also that of a call that was cancelled.
struct EndBreak<'a>(&'a Source);

impl Drop for EndBreak<'_> {
    fn drop(&mut self) {
        // A device that went away sends none any more.
        self.0.with_tty(|tty| _ = tty.set_break(false));
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
