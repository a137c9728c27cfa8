//! Starts a program through a launcher, and is its guardian here: it obeys the same orders, fills
//! the same pipes and reports the same status.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::process as std_process;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::{ANSWERS_WITHIN, ClientMessage, Data, LONGEST_MESSAGE, Launcher, ServerMessage};
use crate::SuperviseError;
use crate::command::{Command, Input, Sink};
use crate::control::{Control, KILL_ALL, ORDER_BYTES, SIGNAL_GROUP, SIGNAL_PROGRAM};
use crate::launch::{Guard, Launched};

/// How long a killed program may take to end before the connection is closed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of stdin in one message.
const CHUNK: usize = 16 * 1024;

/// Starts the command through the launcher; returns once it runs. Blocks until then. Must be called
/// in the context of a runtime.
pub(crate) fn start(
    command: &Command,
    launcher: &Launcher,
    stdin: &Input,
    stdout: &Sink,
    stderr: &Sink,
) -> Result<Launched, SuperviseError> {
    let failed = |error| launcher.failed(&command.name(), error);
    let request = request(command, stdin, stdout, stderr).map_err(failed)?;
    let (answer, connection) = launcher.request(&request, ANSWERS_WITHIN).map_err(failed)?;
    let pid = match answer {
        ServerMessage::Started { pid } => pid,
        ServerMessage::Error { message } => return Err(refused(command, launcher, message)),
        other => return Err(failed(super::unexpected(&other))),
    };
    // An error below closes the connection, which ends the program.
    let connect = || -> io::Result<Launched> {
        connection.socket.set_read_timeout(None)?;
        connection.socket.set_write_timeout(None)?;
        connection.socket.set_nonblocking(true)?;
        let (from, to) = UnixStream::from_std(connection.socket)?.into_split();
        let (orders, control) = io::pipe()?;
        let (status, report) = io::pipe()?;
        let (ours, stdin) = match stdin {
            Input::Piped | Input::Bytes(_) => {
                let (read, write) = io::pipe()?;
                (Some(receiver(read)?), Some(write))
            }
            _ => (None, None),
        };
        let (out, stdout) = output(stdout)?;
        let (err, stderr) = output(stderr)?;
        let stdin = stdin.map(|pipe| std_process::ChildStdin::from(OwnedFd::from(pipe)));
        let stdout = stdout.map(std_process::ChildStdout::from);
        let stderr = stderr.map(std_process::ChildStderr::from);
        let bridge = Bridge {
            from: BufReader::new(io_chain(connection.received, from)),
            out,
            err,
            report: sender(report)?,
            signalled: AtomicI32::new(0),
        };
        let orders = Orders { to, orders: receiver(orders)?, stdin: ours };
        Ok(Launched {
            guard: Guard::Bridge(tokio::spawn(bridge.run(orders))),
            stdin: stdin.map(ChildStdin::from_std).transpose()?,
            stdout: stdout.map(ChildStdout::from_std).transpose()?,
            stderr: stderr.map(ChildStderr::from_std).transpose()?,
            control: Control::new(control.into(), None)?,
            status: status.into(),
            pid,
        })
    };
    connect().map_err(failed)
}

/// The message that starts the command; fails for what a launcher cannot do.
fn request(
    command: &Command,
    stdin: &Input,
    stdout: &Sink,
    stderr: &Sink,
) -> io::Result<ClientMessage> {
    let text = |text: &OsStr| {
        let text = text.to_str().map(str::to_owned);
        text.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "an argument that is not UTF-8"))
    };
    let passes_files = matches!(stdin, Input::Inherit)
        || [stdout, stderr].iter().any(|sink| matches!(sink, Sink::Inherit | Sink::File(_)));
    if passes_files || !command.kept.is_empty() {
        return Err(io::Error::new(ErrorKind::Unsupported, "it passes no files on"));
    }
    let argv = std::iter::once(&command.program).chain(&command.args).map(|arg| text(arg));
    let set = command.env.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let env = set.map(|(name, value)| Ok((text(name)?, text(value)?)));
    Ok(ClientMessage::Exec {
        argv: argv.collect::<io::Result<_>>()?,
        env: env.collect::<io::Result<_>>()?,
        cwd: command.folder.as_ref().map(|folder| text(folder.as_os_str())).transpose()?,
    })
}

/// The error for a program that the launcher could not start: its message ends with the number of
/// the system's error.
fn refused(command: &Command, launcher: &Launcher, message: String) -> SuperviseError {
    let is = |errno: Errno| message.ends_with(&format!("(os error {})", errno.raw_os_error()));
    let program = command.name();
    if is(Errno::NOENT) {
        let hint = "install it in the image of the container that runs the launcher".to_owned();
        let what = format!("the launcher {}: {message}", launcher.socket().display());
        return SuperviseError::NotFound { program, what, hint };
    }
    if is(Errno::ACCESS) {
        return SuperviseError::PermissionDenied { program };
    }
    launcher.failed(&program, io::Error::other(message))
}

/// A pipe for an output that is kept, and nothing for one that is not.
fn output(sink: &Sink) -> io::Result<(Option<Sender>, Option<OwnedFd>)> {
    Ok(match sink {
        Sink::Piped | Sink::Tail(_) | Sink::Lines(_) => {
            let (read, write) = io::pipe()?;
            (Some(sender(write)?), Some(read.into()))
        }
        _ => (None, None),
    })
}

fn sender(pipe: impl Into<OwnedFd>) -> io::Result<Sender> {
    let pipe = pipe.into();
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Sender::from_owned_fd(pipe)
}

fn receiver(pipe: impl Into<OwnedFd>) -> io::Result<Receiver> {
    let pipe = pipe.into();
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Receiver::from_owned_fd(pipe)
}

type Incoming = tokio::io::Chain<std::io::Cursor<Vec<u8>>, OwnedReadHalf>;

fn io_chain(received: Vec<u8>, from: OwnedReadHalf) -> Incoming {
    std::io::Cursor::new(received).chain(from)
}

/// The direction from the launcher.
struct Bridge {
    from: BufReader<Incoming>,
    out: Option<Sender>,
    err: Option<Sender>,
    report: Sender,
    /// The last signal that was sent.
    signalled: AtomicI32,
}

/// The direction to the launcher.
struct Orders {
    to: OwnedWriteHalf,
    orders: Receiver,
    /// `None` if the program has no stdin, or its end was sent.
    stdin: Option<Receiver>,
}

impl Bridge {
    /// Runs until the program has ended, or the connection. Its own end closes the connection.
    async fn run(self, orders: Orders) {
        let Self { mut from, out, err, mut report, signalled } = self;
        let code = tokio::select! {
            code = follow(&mut from, out, err) => code,
            () = orders.obey(&signalled) => return,
        };
        let signal = signalled.load(Ordering::Relaxed);
        let status = match code {
            // As waitpid(2) reports it.
            Some(Some(code)) => (code & 0xff) << 8,
            Some(None) if signal != 0 => signal & 0x7f,
            // Without a report the status is unknown.
            Some(None) | None => return,
        };
        drop(report.write_all(&status.to_ne_bytes()).await);
    }
}

/// Passes the output on until the program's end; `None` if the connection ended first.
async fn follow(
    from: &mut BufReader<Incoming>,
    mut out: Option<Sender>,
    mut err: Option<Sender>,
) -> Option<Option<i32>> {
    loop {
        match ServerMessage::from_line(&read_line(from).await.ok()??).ok()? {
            ServerMessage::Stdout { data } => pass(&mut out, &data).await,
            ServerMessage::Stderr { data } => pass(&mut err, &data).await,
            ServerMessage::Exit { code } => return Some(code),
            ServerMessage::Error { message } => {
                tracing::warn!("the launcher: {message}");
                return None;
            }
            ServerMessage::Started { .. } => {}
        }
    }
}

/// Writes to a pipe until nobody reads it any more.
async fn pass(pipe: &mut Option<Sender>, data: &Data) {
    if let Some(open) = pipe
        && open.write_all(&data.0).await.is_err()
    {
        *pipe = None;
    }
}

impl Orders {
    /// Carries out orders and passes stdin on. Ends with the connection, and some time after the
    /// last handle was dropped.
    async fn obey(mut self, signalled: &AtomicI32) {
        if self.stdin.is_none() && self.send(&ClientMessage::StdinClose).await.is_err() {
            return std::future::pending().await;
        }
        let (mut orders, mut bytes) = ([0; 32 * ORDER_BYTES], vec![0; CHUNK]);
        loop {
            let sent = tokio::select! {
                read = self.orders.read(&mut orders) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.carry_out(&orders[..count], signalled).await,
                },
                read = read_some(&mut self.stdin, &mut bytes) => match read {
                    Ok(0) | Err(_) => {
                        self.stdin = None;
                        self.send(&ClientMessage::StdinClose).await
                    }
                    Ok(count) => {
                        let data = Data(bytes[..count].to_vec());
                        self.send(&ClientMessage::Stdin { data }).await
                    }
                },
            };
            if sent.is_err() {
                // The other direction notices the end, too, after the last output.
                return std::future::pending().await;
            }
        }
        // Nobody holds the program any more.
        drop(timeout(ENDS_WITHIN, self.signal(libc::SIGKILL, signalled)).await);
        tokio::time::sleep(ENDS_WITHIN).await;
    }

    async fn carry_out(&mut self, orders: &[u8], signalled: &AtomicI32) -> io::Result<()> {
        for order in orders.chunks_exact(ORDER_BYTES) {
            match order[0] {
                SIGNAL_PROGRAM | SIGNAL_GROUP => {
                    self.signal(i32::from(order[1]), signalled).await?;
                }
                KILL_ALL => self.signal(libc::SIGKILL, signalled).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn signal(&mut self, signal: i32, signalled: &AtomicI32) -> io::Result<()> {
        signalled.store(signal, Ordering::Relaxed);
        self.send(&ClientMessage::Signal { signal }).await
    }

    async fn send(&mut self, message: &ClientMessage) -> io::Result<()> {
        self.to.write_all(&message.to_line()).await
    }
}

/// Reads from a pipe; never returns without one.
async fn read_some(pipe: &mut Option<Receiver>, bytes: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(bytes).await,
        None => std::future::pending().await,
    }
}

/// Reads a line of bounded length; `None` at the end.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = from.take(LONGEST_MESSAGE as u64).read_until(b'\n', &mut line).await?;
    Ok((count > 0).then_some(line))
}
