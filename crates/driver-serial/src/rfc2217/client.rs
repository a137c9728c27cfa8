//! The client: a port of a terminal server, with its lines and settings.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, Framing, SerialSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::codes::{self, ANSWER, control};
use super::telnet::{self, COM_PORT, Decoder, Event, Options};
use crate::tty::Lines;

/// How long a server may take to answer a command.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The commands of an open connection.
pub(crate) struct Remote {
    output: mpsc::UnboundedSender<Vec<u8>>,
    state: Arc<State>,
    /// Answers to changes of lines and flow control are not waited for.
    ignore_control: bool,
}

#[derive(Default)]
struct State {
    /// The commands that have no answer yet, in their order.
    waiting: Mutex<VecDeque<Asked>>,
    /// Whether the server agreed to RFC 2217; `None` until it says so.
    agreed: watch::Sender<Option<bool>>,
    /// Whether the server wants no data for now.
    suspended: watch::Sender<bool>,
    /// Whether the client reads no more.
    left: CancellationToken,
    closed: CancellationToken,
}

/// A command whose answer may still come, also after its caller left.
struct Asked {
    code: u8,
    until: Instant,
    answered: oneshot::Sender<Vec<u8>>,
}

impl State {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the protocol on `stream` and sets what is given. The connection ends when the channel is
/// dropped.
///
/// # Errors
/// `FailedPrecondition` if the server does not speak RFC 2217 or refuses a setting,
/// `DeadlineExceeded` if it does not answer.
pub(crate) async fn open(
    stream: TcpStream,
    settings: SerialSettings,
    lines: Lines,
    ignore_control: bool,
) -> Result<(Channel, Arc<Remote>)> {
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let (from_client, to_client) = theirs.split();
    let (reader, writer) = stream.into_split();
    let (output, queue) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    let left = state.left.clone().drop_guard();
    let (received, sent) = ours.split();
    let received = received.inspect(move |_| _ = &left);
    let ours = Channel::from_parts(Framing::Bytes, received, sent);
    let mut options = Options::default();
    let remote = Arc::new(Remote { output, state: Arc::clone(&state), ignore_control });
    remote.send(options.begin(telnet::WILL));
    tokio::spawn(write(writer, queue, from_client, Arc::clone(&state)));
    tokio::spawn(read(reader, options, to_client, remote.output.clone(), state));
    remote.agree().await?;
    remote.configure(settings).await?;
    remote.set_lines(lines).await?;
    Ok((ours, remote))
}

impl Remote {
    fn send(&self, bytes: Vec<u8>) {
        // The commands that wait for an answer notice that the connection is closed.
        drop(self.output.send(bytes));
    }

    /// Whether the connection is still open.
    pub(crate) fn is_open(&self) -> bool {
        !self.state.closed.is_cancelled()
    }

    async fn agree(&self) -> Result<()> {
        let mut agreed = self.state.agreed.subscribe();
        let known = timeout(ANSWER_DEADLINE, agreed.wait_for(Option::is_some)).await;
        let no = |why: &str| {
            Error::failed_precondition(why.to_owned())
                .with_hint("use socket:// for a server of raw TCP")
        };
        match known {
            Ok(Ok(known)) if *known == Some(true) => Ok(()),
            Ok(_) if self.state.closed.is_cancelled() => {
                Err(Error::unavailable("the server closed the connection"))
            }
            Ok(_) => Err(no("the server does not speak RFC 2217")),
            Err(_) => Err(no("the server does not answer as one of RFC 2217 does")),
        }
    }

    /// Sends a command, and returns what its answer will be.
    fn ask(&self, code: u8, value: &[u8]) -> oneshot::Receiver<Vec<u8>> {
        let (answered, answer) = oneshot::channel();
        let until = Instant::now() + ANSWER_DEADLINE;
        self.state.waiting().push_back(Asked { code, until, answered });
        self.send(telnet::command(code, value));
        if self.state.closed.is_cancelled() {
            self.state.waiting().clear();
        }
        answer
    }

    /// Sends a command, and fails if the server's answer is another value.
    async fn command(&self, what: &str, code: u8, value: &[u8]) -> Result<()> {
        let answer = self.answer_to(what, code, value).await?;
        match answer {
            Some(answer) if !answer.starts_with(value) => Err(Error::failed_precondition(format!(
                "the server refused {what}: it answered {answer:?} to {value:?}"
            ))),
            _ => Ok(()),
        }
    }

    /// Sends a command, and waits for the answer if answers to it are waited for.
    async fn answer_to(&self, what: &str, code: u8, value: &[u8]) -> Result<Option<Vec<u8>>> {
        if code == codes::CONTROL && self.ignore_control {
            self.send(telnet::command(code, value));
            return Ok(None);
        }
        let answer = timeout(ANSWER_DEADLINE, self.ask(code, value)).await.map_err(|_| {
            Error::deadline_exceeded(format!(
                "the server did not answer to {what} within {} s",
                ANSWER_DEADLINE.as_secs()
            ))
            .with_hint("add ?ign_set_control to the url if it answers to no change of a line")
        })?;
        answer.map(Some).map_err(|_| Error::unavailable("the server closed the connection"))
    }

    /// Changes the settings that are given.
    pub(crate) async fn configure(&self, settings: SerialSettings) -> Result<()> {
        if let Some(rate) = settings.baudrate {
            self.command("`baudrate`", codes::BAUD_RATE, &rate.to_be_bytes()).await?;
        }
        if let Some(bits) = settings.data_bits {
            self.command("`data_bits`", codes::DATA_SIZE, &[bits]).await?;
        }
        if let Some(parity) = settings.parity {
            self.command("`parity`", codes::PARITY, &[codes::parity_code(parity)]).await?;
        }
        if let Some(bits) = settings.stop_bits {
            self.command("`stop_bits`", codes::STOP_SIZE, &[bits]).await?;
        }
        if let Some(flow) = settings.flow_control {
            self.command("`flow_control`", codes::CONTROL, &[codes::flow_code(flow)]).await?;
        }
        Ok(())
    }

    /// Sets the lines that are given.
    pub(crate) async fn set_lines(&self, lines: Lines) -> Result<()> {
        if let Some(level) = lines.dtr {
            let value = if level { control::DTR_ON } else { control::DTR_OFF };
            self.command("DTR", codes::CONTROL, &[value]).await?;
        }
        if let Some(level) = lines.rts {
            let value = if level { control::RTS_ON } else { control::RTS_OFF };
            self.command("RTS", codes::CONTROL, &[value]).await?;
        }
        Ok(())
    }

    /// Begins a break, and ends it after `duration` or when the call is cancelled.
    pub(crate) async fn send_break(&self, duration: Duration) -> Result<()> {
        struct End<'a>(&'a Remote);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                drop(self.0.ask(codes::CONTROL, &[control::BREAK_OFF]));
            }
        }
        let end = End(self);
        self.command("a break", codes::CONTROL, &[control::BREAK_ON]).await?;
        tokio::time::sleep(duration).await;
        std::mem::forget(end);
        // ser2net answers to it with the value of the beginning.
        let value = [control::BREAK_OFF];
        self.answer_to("the end of a break", codes::CONTROL, &value).await.map(drop)
    }
}

/// Sends commands and the client's bytes until the client or the server leaves.
async fn write(
    mut writer: OwnedWriteHalf,
    mut commands: mpsc::UnboundedReceiver<Vec<u8>>,
    mut data: ChannelReader,
    state: Arc<State>,
) {
    let mut suspended = state.suspended.subscribe();
    loop {
        let held = *suspended.borrow_and_update();
        let bytes = tokio::select! {
            biased;
            () = state.closed.cancelled() => break,
            Some(command) = commands.recv() => command,
            _ = suspended.changed() => continue,
            () = state.left.cancelled(), if held => break,
            bytes = data.receive(), if !held => match bytes {
                Ok(Some(bytes)) => {
                    let mut escaped = Vec::with_capacity(bytes.len());
                    telnet::escape(&bytes, &mut escaped);
                    escaped
                }
                _ => break,
            },
        };
        let sent = tokio::select! {
            () = state.closed.cancelled() => break,
            sent = writer.write_all(&bytes) => sent,
            () = leave(&state) => break,
        };
        if sent.is_err() {
            break;
        }
    }
    state.closed.cancel();
}

/// Waits until the client has left, and a moment for the server to take what it sent.
async fn leave(state: &State) {
    state.left.cancelled().await;
    sleep(ANSWER_DEADLINE).await;
}

/// Takes the server's stream apart until it ends or the client leaves.
async fn read(
    mut reader: OwnedReadHalf,
    mut options: Options,
    mut data: ChannelWriter,
    output: mpsc::UnboundedSender<Vec<u8>>,
    state: Arc<State>,
) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 16 * 1024];
    let reading = async {
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            for event in decoder.decode(&buffer[..count]) {
                match event {
                    Event::Data(bytes) => {
                        if data.send(Bytes::from(bytes)).await.is_err() {
                            return;
                        }
                    }
                    Event::Option(verb, option) => {
                        if option == COM_PORT && matches!(verb, telnet::DO | telnet::DONT) {
                            state.agreed.send_replace(Some(verb == telnet::DO));
                        }
                        if let Some(answer) = options.answer(verb, option) {
                            drop(output.send(answer));
                        }
                    }
                    Event::Command(code, value) => state.handle(code, value),
                }
            }
        }
    };
    tokio::select! {
        () = state.closed.cancelled() => {}
        () = reading => {}
    }
    state.closed.cancel();
    state.agreed.send_if_modified(|agreed| agreed.is_none() && agreed.insert(false) == &false);
    state.waiting().clear();
}

impl State {
    fn handle(&self, code: u8, value: Vec<u8>) {
        match code.checked_sub(ANSWER) {
            Some(codes::SUSPEND) => _ = self.suspended.send_replace(true),
            Some(codes::RESUME) => _ = self.suspended.send_replace(false),
            Some(asked) => {
                let mut waiting = self.waiting();
                let now = Instant::now();
                // No answer comes any more to those that had none in time.
                waiting.retain(|asked| asked.until > now);
                let place = waiting.iter().position(|command| command.code == asked);
                if let Some(command) = place.and_then(|place| waiting.remove(place)) {
                    drop(command.answered.send(value));
                }
            }
            None => {}
        }
    }
}
