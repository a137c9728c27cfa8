//! The server: other tools use a port through RFC 2217.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, SerialSettings, keep_alive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::codes::{self, ANSWER, control};
use super::telnet::{self, COM_PORT, Decoder, Event, Options};

/// How long accepting pauses after it failed, for example because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pieces for the network that wait before the port is read on.
const QUEUED: usize = 16;
/// CTS, DSR and carrier, as a port without these lines has them.
const MODEM_STATE: u8 = 0xb0;
const NOTIFY_MODEM_STATE: u8 = 7;

/// Serves a serial port to programs that speak RFC 2217, such as pySerial with
/// `rfc2217://127.0.0.1:4000`.
///
/// Each connection is a client of the port, as any other. Baud rate, data bits, parity, stop bits,
/// flow control, DTR, RTS and breaks are passed on; a port that has no settings accepts every
/// value. A break is sent when the client ends it, as long as the client held it. Dropping the
/// server ends its connections.
///
/// Pitfall: RFC 2217 has no password. Listen on the loopback only.
pub struct Rfc2217Server {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Rfc2217Server {
    /// Serves `serial` at `address`, such as `127.0.0.1:0` for a free port.
    ///
    /// # Errors
    /// Those of listening: `AlreadyExists` if the address is in use.
    pub async fn bind(serial: Arc<dyn Serial>, address: &str) -> Result<Self> {
        let doing = || format!("listening at {address}");
        let listener = TcpListener::bind(address).await.with_context(doing)?;
        let address = listener.local_addr().with_context(doing)?;
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, serial)));
        Ok(Self { address, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Rfc2217Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rfc2217Server({})", self.address)
    }
}

async fn accept(listener: TcpListener, serial: Arc<dyn Serial>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serial = Arc::clone(&serial);
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &*serial).await {
                        tracing::warn!(%peer, "RFC 2217: {}", error.report());
                    }
                });
            }
            Err(error) => {
                tracing::warn!("RFC 2217: accepting a connection failed: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, serial: &dyn Serial) -> Result<()> {
    keep_alive(&stream)?;
    let (port, to_port) = serial.connect().await?.split();
    let (reader, mut writer) = stream.into_split();
    let (output, mut queue) = mpsc::channel(QUEUED);
    let mut options = Options::default();
    // The queue is new and has room.
    drop(output.try_send(options.begin(telnet::DO)));
    let suspended = watch::Sender::new(false);
    let ended = suspended.subscribe();
    let settings = serial.configure(SerialSettings::default()).await.unwrap_or_default();
    let session = Session {
        serial,
        options,
        settings,
        dtr: true,
        rts: true,
        break_since: None,
        suspended,
        output: output.clone(),
    };
    tokio::select! {
        ended = session.pass_to_port(reader, to_port) => ended,
        ended = pass_from_port(port, output, ended) => ended,
        ended = async {
            while let Some(bytes) = queue.recv().await {
                writer.write_all(&bytes).await?;
            }
            Ok(())
        } => ended,
    }
}

/// Passes the port's bytes on, unless the client wants none for now.
async fn pass_from_port(
    mut port: ChannelReader,
    output: mpsc::Sender<Vec<u8>>,
    mut suspended: watch::Receiver<bool>,
) -> Result<()> {
    while let Some(bytes) = port.receive().await? {
        // The session holds the other end for as long as this runs.
        drop(suspended.wait_for(|suspended| !suspended).await);
        let mut escaped = Vec::with_capacity(bytes.len());
        telnet::escape(&bytes, &mut escaped);
        if output.send(escaped).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// One connection.
struct Session<'a> {
    serial: &'a dyn Serial,
    options: Options,
    settings: SerialSettings,
    dtr: bool,
    rts: bool,
    break_since: Option<Instant>,
    suspended: watch::Sender<bool>,
    output: mpsc::Sender<Vec<u8>>,
}

impl Session<'_> {
    async fn pass_to_port(
        mut self,
        mut reader: OwnedReadHalf,
        mut to_port: ChannelWriter,
    ) -> Result<()> {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            for event in decoder.decode(&buffer[..count]) {
                let answer = match event {
                    Event::Data(bytes) => {
                        to_port.send(Bytes::from(bytes)).await?;
                        None
                    }
                    Event::Option(verb, option) => {
                        if option == COM_PORT && verb == telnet::WILL {
                            let state =
                                telnet::command(NOTIFY_MODEM_STATE + ANSWER, &[MODEM_STATE]);
                            drop(self.output.send(state).await);
                        }
                        self.options.answer(verb, option)
                    }
                    Event::Command(code, value) => {
                        let answer = self.command(code, &value).await?;
                        answer.map(|value| telnet::command(code.wrapping_add(ANSWER), &value))
                    }
                };
                if let Some(answer) = answer {
                    // The writer ends this session when it fails.
                    drop(self.output.send(answer).await);
                }
            }
        }
    }

    /// Obeys a command, and returns the value in effect.
    async fn command(&mut self, code: u8, value: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut wanted = SerialSettings::default();
        let first = value.first().copied().unwrap_or(0);
        match code {
            codes::SIGNATURE if value.is_empty() => return Ok(Some(b"Jumpstarter".to_vec())),
            codes::BAUD_RATE => {
                let rate = value.try_into().map(u32::from_be_bytes).unwrap_or(0);
                wanted.baudrate = Some(rate).filter(|rate| *rate > 0);
                let now = self.configure(wanted).await.baudrate.unwrap_or(115_200);
                return Ok(Some(now.to_be_bytes().to_vec()));
            }
            codes::DATA_SIZE => wanted.data_bits = Some(first).filter(|bits| *bits > 0),
            codes::PARITY => wanted.parity = codes::parity_of(first),
            codes::STOP_SIZE => wanted.stop_bits = Some(first).filter(|bits| *bits > 0),
            codes::CONTROL => return Ok(Some(vec![self.control(first).await?])),
            codes::SUSPEND => _ = self.suspended.send_replace(true),
            codes::RESUME => _ = self.suspended.send_replace(false),
            codes::LINE_STATE_MASK | codes::MODEM_STATE_MASK | codes::PURGE => {
                return Ok(Some(value.to_vec()));
            }
            _ => {}
        }
        let now = match code {
            codes::DATA_SIZE => self.configure(wanted).await.data_bits.unwrap_or(8),
            codes::PARITY => {
                let parity = self.configure(wanted).await.parity;
                parity.map_or(1, codes::parity_code)
            }
            codes::STOP_SIZE => self.configure(wanted).await.stop_bits.unwrap_or(1),
            _ => return Ok(None),
        };
        Ok(Some(vec![now]))
    }

    async fn control(&mut self, value: u8) -> Result<u8> {
        match value {
            control::DTR_ON | control::DTR_OFF => {
                let level = value == control::DTR_ON;
                unless_missing(self.serial.set_dtr(level).await)?;
                self.dtr = level;
            }
            control::RTS_ON | control::RTS_OFF => {
                let level = value == control::RTS_ON;
                unless_missing(self.serial.set_rts(level).await)?;
                self.rts = level;
            }
            control::BREAK_ON => self.break_since = Some(Instant::now()),
            control::BREAK_OFF => {
                if let Some(since) = self.break_since.take() {
                    let length = Span::from(since.elapsed().min(Duration::from_secs(10)));
                    unless_missing(self.serial.send_break(Some(length)).await)?;
                }
            }
            control::DTR_QUERY => {
                return Ok(if self.dtr { control::DTR_ON } else { control::DTR_OFF });
            }
            control::RTS_QUERY => {
                return Ok(if self.rts { control::RTS_ON } else { control::RTS_OFF });
            }
            control::BREAK_QUERY => {
                let on = self.break_since.is_some();
                return Ok(if on { control::BREAK_ON } else { control::BREAK_OFF });
            }
            control::FLOW_QUERY..=control::FLOW_HARDWARE => {
                let flow_control = codes::flow_of(value);
                let wanted = SerialSettings { flow_control, ..SerialSettings::default() };
                let now = self.configure(wanted).await.flow_control;
                return Ok(now.map_or(control::FLOW_NONE, codes::flow_code));
            }
            _ => {}
        }
        Ok(value)
    }

    /// Changes settings and returns those in effect. A port that has none accepts all.
    async fn configure(&mut self, wanted: SerialSettings) -> SerialSettings {
        match self.serial.configure(wanted).await {
            Ok(now) => self.settings = now,
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                self.settings = wanted.or(self.settings);
            }
            Err(error) => tracing::warn!("RFC 2217: {}", error.report()),
        }
        self.settings
    }
}

/// A line that a port does not have takes every level.
fn unless_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(()),
        outcome => outcome,
    }
}
