//! One program, from its request to its end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_supervise::launcher::{ClientMessage, Data, LONGEST_MESSAGE, ServerMessage};
use jumpstarter_supervise::{Child, Command, Input, Signal, Sink, StopPlan, SuperviseError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::ChildStdin;
use tokio::sync::Mutex;

use crate::log::{Log, bytes};
use crate::serve::Shared;

/// Bytes of output in one message.
const CHUNK: usize = 16 * 1024;
/// How long a program may take to end after SIGTERM; then it is killed.
const TERMINATES_WITHIN: Duration = Duration::from_secs(5);
/// How often a connection is looked at while its program does not read its stdin.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The direction to the client.
#[derive(Debug, Clone)]
pub(crate) struct Answers(Arc<Mutex<OwnedWriteHalf>>);

impl Answers {
    pub(crate) fn new(to: OwnedWriteHalf) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    pub(crate) async fn send(&self, message: &ServerMessage) -> io::Result<()> {
        self.0.lock().await.write_all(&message.to_line()).await
    }
}

/// Reads a line; `None` at the end of the connection.
pub(crate) async fn read_line(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = from.take(LONGEST_MESSAGE as u64).read_until(b'\n', &mut line).await?;
    if count == LONGEST_MESSAGE && !line.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of more than 4 MiB"));
    }
    Ok((count > 0).then_some(line))
}

/// What `Exec` asks for: arguments, variables, a folder.
pub(crate) type Asked = (Vec<String>, Vec<(String, String)>, Option<String>);

/// Runs a program until it ends, its client leaves, or the server ends.
pub(crate) async fn run(
    (argv, env, cwd): Asked,
    from: BufReader<OwnedReadHalf>,
    answers: Answers,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let log = &shared.log;
    log.debug("exec request", || {
        vec![("argv", json!(argv)), ("cwd", json!(cwd)), ("env_count", json!(env.len()))]
    });
    let mut command = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Input::Piped)
        .stdout(Sink::Piped)
        .stderr(Sink::Piped);
    command = env.iter().fold(command, |command, (name, value)| command.env(name, value));
    command = cwd.into_iter().fold(command, Command::current_dir);
    let child = match command.spawn().await {
        Ok(child) => child,
        Err(error) => {
            let message = format!("spawn failed: {}", reason(&error));
            let about = [("argv", json!(argv)), ("error", json!(error.to_string()))];
            log.error("spawn failed", &about);
            return answers.send(&ServerMessage::Error { message }).await;
        }
    };
    let pid = child.pid();
    log.info("exec started", &[("pid", json!(pid)), ("argv", json!(argv))]);
    if let Err(error) = answers.send(&ServerMessage::Started { pid }).await {
        child.stop(terminate()).await.map_err(io::Error::other)?;
        return Err(error);
    }

    let output = async {
        tokio::join!(
            pass_on(child.take_stdout(), &answers, log, pid, "stdout"),
            pass_on(child.take_stderr(), &answers, log, pid, "stderr"),
        );
        child.wait().await
    };
    let status = tokio::select! {
        status = output => status,
        () = obey(from, &child, log) => return stop(&child, log, "client disconnected").await,
        () = shared.ending.cancelled() => return stop(&child, log, "shutdown").await,
    };
    let code = status.code();
    log.info("exec finished", &[("pid", json!(pid)), ("exit_code", json!(code))]);
    let sent = answers.send(&ServerMessage::Exit { code }).await;
    // Programs that it started and left, as services do, run on until the server ends.
    let ending = shared.ending.clone();
    shared.left.spawn(async move {
        tokio::select! {
            () = child.wait_gone() => {}
            () = ending.cancelled() => drop(child.stop(terminate()).await),
        }
    });
    sent
}

/// SIGTERM, and SIGKILL for the program and all of its descendants.
fn terminate() -> StopPlan {
    StopPlan::terminate(TERMINATES_WITHIN)
}

async fn stop(child: &Child, log: &Log, why: &str) -> io::Result<()> {
    let stopped = child.stop(terminate()).await.map_err(io::Error::other)?;
    let about = [
        ("pid", json!(child.pid())),
        ("exit_code", json!(stopped.status.code())),
        ("reason", json!(why)),
    ];
    log.info("exec finished", &about);
    Ok(())
}

/// The system's error where there is one, as upstream's program reports it.
fn reason(error: &SuperviseError) -> String {
    let errno = match error {
        SuperviseError::NotFound { .. } => Errno::NOENT,
        SuperviseError::PermissionDenied { .. } => Errno::ACCESS,
        SuperviseError::Folder { source, .. } | SuperviseError::Start { source, .. } => {
            return source.to_string();
        }
        other => return other.to_string(),
    };
    io::Error::from(errno).to_string()
}

/// Sends output until its end, or until the client has left.
async fn pass_on(
    output: Option<impl AsyncRead + Unpin>,
    answers: &Answers,
    log: &Log,
    pid: u32,
    name: &'static str,
) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        log.debug(name, || bytes(pid, &buffer[..count]));
        let data = Data(buffer[..count].to_vec());
        let message = match name {
            "stdout" => ServerMessage::Stdout { data },
            _ => ServerMessage::Stderr { data },
        };
        if answers.send(&message).await.is_err() {
            return;
        }
    }
}

/// Carries out what the client asks for; returns when it has left.
async fn obey(mut from: BufReader<OwnedReadHalf>, child: &Child, log: &Log) {
    let (mut stdin, pid) = (child.take_stdin(), child.pid());
    while let Ok(Some(line)) = read_line(&mut from).await {
        match ClientMessage::from_line(&line) {
            Ok(ClientMessage::Stdin { data: Data(data) }) => {
                log.debug("stdin", || bytes(pid, &data));
                let written = tokio::select! {
                    written = write(&mut stdin, &data) => written,
                    () = gone(from.get_ref()) => return,
                };
                if written.is_err() {
                    // The program has closed it.
                    stdin = None;
                }
            }
            Ok(ClientMessage::StdinClose) => {
                log.debug("stdin closed", || vec![("pid", json!(pid))]);
                stdin = None;
            }
            Ok(ClientMessage::Signal { signal }) => {
                log.debug("signal", || vec![("pid", json!(pid)), ("signal", json!(signal))]);
                if let Some(signal) = Signal::from_named_raw(signal) {
                    child.signal(signal);
                }
            }
            // Messages of a later version.
            Ok(_) | Err(_) => {}
        }
    }
}

async fn write(stdin: &mut Option<ChildStdin>, data: &[u8]) -> io::Result<()> {
    match stdin {
        Some(stdin) => stdin.write_all(data).await,
        None => Ok(()),
    }
}

/// Returns when the client has closed the connection, whatever it sent before.
async fn gone(from: &OwnedReadHalf) {
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let stream: &tokio::net::UnixStream = from.as_ref();
        let mut looked = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let closed = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        if poll(&mut looked, Some(&now)).is_ok() && looked[0].revents().intersects(closed) {
            return;
        }
    }
}
