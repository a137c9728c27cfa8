//! A process that hosts drivers: how it is started, spoken to and ended, and what is known of its
//! end.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::RuntimeDir;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::hosted::HostedTree;
use crate::interpreter;
use crate::log;
use crate::modules::Modules;
use crate::server::{KIND, Server};

/// Closing drivers may take so long.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);
/// What a process that ended still wrote is read within that time.
const OUTPUT_LIMIT: Duration = Duration::from_millis(500);
/// A process has to serve within that time: its packages may have to be imported first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The lines of its output and its log that are kept as its last words.
const LAST_LINES: usize = 12;
/// The longest of them, in characters.
const MAX_LINE: usize = 500;
/// A longer line is split, in bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// What begins a line that is a record of the log, as the process writes it.
const RECORD: char = '\u{1e}';

/// A running process.
#[derive(Debug)]
pub(crate) struct HostProcess {
    server: Arc<Server>,
    /// Among those of the server.
    number: u64,
    /// What it has imported itself.
    modules: Modules,
    /// What it is asked; none once it was asked to end.
    requests: Mutex<Requests>,
    ended: watch::Receiver<Option<Arc<End>>>,
    pub(crate) socket: PathBuf,
    /// It has the socket, and goes with the process.
    _folder: RuntimeDir,
}

#[derive(Debug)]
struct Requests {
    writer: Option<OwnedWriteHalf>,
    answers: mpsc::Receiver<Value>,
    /// The number of the last request. A request that was cancelled may leave its answer.
    last: u64,
}

/// What is hosted, as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The drivers, by name, as in the exporter file.
    pub(crate) tree: HostedTree,
    /// The path of the first of them.
    pub(crate) place: String,
}

impl HostProcess {
    /// Starts a process and waits until it serves.
    pub(crate) async fn start(server: Arc<Server>, wanted: &Wanted) -> Result<Self> {
        let folder = blocking(|| Ok(RuntimeDir::create_for_sockets(KIND)?)).await?;
        let socket = folder.file("socket");
        let (control, theirs) = StdUnixStream::pair()?;
        control.set_nonblocking(true)?;
        let (reader, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let number = server.fork(&OwnedFd::from(theirs), &output)?;
        drop(output);
        let words = Words::default();
        let reading = tokio::spawn(words.clone().read(reader, wanted.place.clone()));
        let (answers, writer) = UnixStream::from_std(control)?.into_split();
        let message = json!({
            "tree": wanted.tree.0, "socket": socket, "log_level": interpreter::log_level(),
        });
        let (sender, receiver) = mpsc::channel(4);
        let (ended, end) = watch::channel(None);
        let last = LastWords { place: wanted.place.clone(), words, reading };
        tokio::spawn(follow(answers, sender, ended, last));
        let requests = Requests { writer: Some(writer), answers: receiver, last: 0 };
        let requests = Mutex::new(requests);
        // From here on dropping it kills the process.
        let modules = Modules::default();
        let mut process =
            Self { server, number, modules, requests, ended: end, socket, _folder: folder };
        match tokio::time::timeout(START_LIMIT, process.begin(&message)).await {
            Ok(begun) => begun.map(|()| process),
            Err(_) => {
                let limit = START_LIMIT.as_secs();
                let message = format!("`{}` did not open within {limit} s", wanted.place);
                Err(Error::deadline_exceeded(message))
            }
        }
    }

    /// Sends what it hosts, and waits until it serves.
    async fn begin(&mut self, message: &Value) -> Result<()> {
        let Requests { writer, answers, .. } = self.requests.get_mut();
        if let Some(writer) = writer {
            // One that has ended already says why.
            drop(send(writer, message).await);
        }
        match answers.recv().await {
            Some(answer) if answer["ready"] == true => {
                self.modules = Modules::read(&answer).await;
                Ok(())
            }
            Some(answer) => Err(match (failure(&answer), answer["missing"].as_str()) {
                (None, _) => Error::internal(format!("the process says {answer}")),
                (Some(error), None) => error,
                (Some(error), Some(missing)) => {
                    let install = interpreter::install_hint(self.server.python(), missing);
                    error.with_hint(format!("`{install}` may bring it"))
                }
            }),
            None => {
                let end = why(&mut self.ended.clone()).await;
                // Without the server nobody reports the exit code.
                let server = if end.exit.is_none() { self.server.why_ended().await } else { None };
                Err(match server {
                    Some(why) => Error::unavailable(why).with_hint(interpreter::HINT),
                    None => end.error(),
                })
            }
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Waits for its end and says why.
    pub(crate) fn explanation(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut ended = self.ended.clone();
        async move { why(&mut ended).await.error() }
    }

    /// Whether a module that it has loaded has changed since.
    pub(crate) async fn is_stale(&self) -> bool {
        self.server.is_stale().await || self.modules.have_changed().await
    }

    /// Resets the driver at `path`, if one is said; without, it waits for an answer.
    pub(crate) async fn reset(&self, path: Option<&str>) -> Result<()> {
        let mut requests = self.requests.lock().await;
        let Requests { writer: Some(writer), answers, last } = &mut *requests else {
            return Err(Error::failed_precondition("the drivers in Python are closed"));
        };
        *last += 1;
        let number = *last;
        while answers.try_recv().is_ok() {}
        let ended = async { why(&mut self.ended.clone()).await.error() };
        if send(writer, &json!({"reset": path, "number": number})).await.is_err() {
            return Err(ended.await);
        }
        loop {
            match answers.recv().await {
                None => return Err(ended.await),
                Some(answer) if answer["number"] == number => {
                    return failure(&answer).map_or(Ok(()), Err);
                }
                Some(_) => {}
            }
        }
    }

    /// Kills it, and waits for its end.
    pub(crate) async fn kill(&self) {
        self.server.kill(self.number);
        why(&mut self.ended.clone()).await;
    }

    /// Has it close its drivers and end; one that does not is killed.
    pub(crate) async fn close(&self) -> Result<()> {
        self.requests.lock().await.writer = None;
        let mut ended = self.ended.clone();
        if tokio::time::timeout(CLOSE_LIMIT, why(&mut ended)).await.is_ok() {
            return Ok(());
        }
        self.server.kill(self.number);
        let message = format!("it did not close within {} s and was killed", CLOSE_LIMIT.as_secs());
        Err(Error::deadline_exceeded(message))
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        if !self.has_ended() && self.requests.get_mut().writer.is_none() {
            return; // it is closing
        }
        if !self.has_ended() {
            self.server.kill(self.number);
        }
    }
}

async fn why(ended: &mut watch::Receiver<Option<Arc<End>>>) -> Arc<End> {
    let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    end.unwrap_or_default()
}

/// The error that an answer holds.
fn failure(answer: &Value) -> Option<Error> {
    let text = answer["failed"].as_str()?.to_owned();
    Some(interpreter::error(answer["kind"].as_str().unwrap_or_default(), text))
}

async fn send(writer: &mut OwnedWriteHalf, message: &Value) -> std::io::Result<()> {
    let mut text = message.to_string();
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

/// Hands its answers on until it ends.
async fn follow(
    answers: OwnedReadHalf,
    sender: mpsc::Sender<Value>,
    ended: watch::Sender<Option<Arc<End>>>,
    last: LastWords,
) {
    let mut lines = BufReader::new(answers).lines();
    let mut exit = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
        match answer["exit"].as_i64() {
            Some(code) => exit = Some(code),
            // A request that waits for its answer has room for it.
            None => drop(sender.try_send(answer)),
        }
    }
    let message = last.explain(exit).await;
    ended.send_replace(Some(Arc::new(End { exit, message })));
}

/// The last lines that a process wrote.
#[derive(Clone, Debug, Default)]
struct Words(Arc<StdMutex<VecDeque<String>>>);

impl Words {
    /// Reads to the end; each line is, or becomes, a record of the log.
    async fn read(self, output: OwnedFd, place: String) {
        let Ok(output) = pipe::Receiver::from_owned_fd(output) else { return };
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut output).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() {
                continue;
            }
            let record = text.strip_prefix(RECORD).and_then(|text| serde_json::from_str(text).ok());
            let (severity, text): (String, String) = record
                .unwrap_or_else(|| ("INFO".to_owned(), text.chars().take(MAX_LINE).collect()));
            log::write(&severity, &text, &place);
            let text = text.chars().take(MAX_LINE).collect();
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() >= LAST_LINES {
                lines.pop_front();
            }
            lines.push_back(text);
        }
    }
}

/// The end of a process.
#[derive(Debug)]
struct End {
    /// Its exit code, if its server still was there to report it; negative for a signal.
    exit: Option<i64>,
    message: String,
}

impl Default for End {
    fn default() -> Self {
        Self { exit: None, message: "the process in Python has ended".to_owned() }
    }
}

impl End {
    fn error(&self) -> Error {
        Error::unavailable(&self.message)
            .with_hint("a reset, or the next session, starts a new one")
    }
}

struct LastWords {
    place: String,
    words: Words,
    reading: JoinHandle<()>,
}

impl LastWords {
    async fn explain(self, exit: Option<i64>) -> String {
        // What it started may hold the pipe.
        drop(tokio::time::timeout(OUTPUT_LIMIT, self.reading).await);
        let how = match exit {
            Some(code) if code < 0 => format!("was killed by signal {}", -code),
            Some(code) => format!("ended with exit code {code}"),
            None => "ended".to_owned(),
        };
        let lines = self.words.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let words = match lines.is_empty() {
            true => String::new(),
            false => format!("; its last words: {}", lines.join("\n")),
        };
        format!("the Python process of `{}` {how}{words}", self.place)
    }
}
