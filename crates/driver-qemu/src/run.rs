//! One run of QEMU, from its start to its end. A monitor task follows the process and its QMP
//! events and drives the machine's state.

mod ending;
mod monitor;

pub(crate) use monitor::STALLED_HINT;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Sink};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Timeouts;
use crate::launch::Connection;
use crate::qmp::{Qmp, QmpEvent};
use crate::state::MachineState;
use crate::status::{RunNumber, Starting, Status};

/// Bytes of QEMU's stderr that are kept for errors.
const STDERR_TAIL_BYTES: usize = 16 * 1024;

/// How much later than QMP's end the end of the process may be noticed: on a busy host, seconds.
const LAG: Duration = Duration::from_secs(5);

/// How long killed processes may take to end.
pub(crate) const KILL_WITHIN: Duration = Duration::from_secs(10);

/// The signal of a system call that the sandbox forbids.
const SIGSYS: i32 = if cfg!(target_os = "macos") { 12 } else { 31 };

/// The number of console lines that errors quote.
pub(crate) const QUOTED_LINES: usize = 5;

/// QEMU's command, and our ends of its sockets.
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) qmp: Connection,
    pub(crate) console: Connection,
    /// Ends the start.
    pub(crate) destroyed: CancellationToken,
}

/// QEMU while it runs.
#[derive(Debug)]
pub(crate) struct Run {
    number: RunNumber,
    child: Child,
    qmp: Qmp,
    started_at: Instant,
    timeouts: Timeouts,
    status: Status,
    /// This program cut the power: QEMU's end is not a crash.
    cut: AtomicBool,
    /// This program killed QEMU because it did not quit in time.
    killed: AtomicBool,
    /// The guest shut itself down.
    guest_shut_down: AtomicBool,
    /// The final state is a crash.
    crashed: AtomicBool,
    /// Asks the monitor task to confirm that it has handled all messages of QMP.
    settle: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// A run whose QEMU answers.
pub(crate) struct Started {
    pub(crate) run: Arc<Run>,
    /// The guest's console.
    pub(crate) console: UnixStream,
    pub(crate) following: Following,
}

/// The parts of a run that the monitor follows.
pub(crate) struct Following {
    state: MachineState,
    events: broadcast::Receiver<QmpEvent>,
    settle: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

impl Following {
    /// The machine is up: its state says so, and follows QEMU from here on.
    pub(crate) fn begin(self, run: Arc<Run>, starting: Starting) {
        starting.succeeded(self.state);
        tokio::spawn(run.follow(self.events, self.settle));
    }
}

impl Run {
    /// Starts QEMU and returns when QMP answers. A failed start leaves no process; dropping the
    /// future leaves none after a moment.
    pub(crate) async fn start(
        launch: Launch,
        number: RunNumber,
        status: &Status,
        timeouts: &Timeouts,
    ) -> Result<Started> {
        let deadline = deadline_after(timeouts.start.as_duration());
        let command = launch
            .command
            .stderr(Sink::Tail(STDERR_TAIL_BYTES))
            .stdout(Sink::Tail(STDERR_TAIL_BYTES));
        // The program may be on a file system that hangs.
        let spawned = timeout_at(deadline, command.spawn()).await.map_err(|_| {
            Error::deadline_exceeded(format!(
                "QEMU's program did not start within {}",
                timeouts.start
            ))
        });
        let child = spawned?.context("running QEMU")?;

        // A failed start quotes what the guest said.
        let mut console = None;
        let connect = async {
            // In the order in which QEMU connects.
            let qmp = launch.qmp.established().await?;
            console = Some(launch.console.established().await?);
            let qmp = Qmp::start(qmp, timeouts.start.as_duration()).await?;
            // It may have been started paused (`-S`, `-incoming`).
            let rest = deadline.saturating_duration_since(Instant::now());
            let answer = qmp.execute(qapi::qmp::query_status {}, rest).await?;
            Ok((qmp, if answer.running { MachineState::Running } else { monitor::paused(&answer) }))
        };
        let connected = tokio::select! {
            biased;
            connected = timeout_at(deadline, connect) => connected.unwrap_or_else(|_| {
                Err(Error::deadline_exceeded("QEMU's monitor did not answer"))
            }),
            _ = child.wait() => Err(Error::unavailable("QEMU has ended")),
            () = launch.destroyed.cancelled() => {
                Err(Error::failed_precondition("the machine is destroyed"))
            }
        };
        let (qmp, state, console) = match (connected, console) {
            (Ok((qmp, state)), Some(console)) => (qmp, state, console),
            (connected, console) => {
                let error = connected.err().unwrap_or_else(|| Error::internal("no console"));
                let error = why_not_started(error, &child, timeouts).await;
                child.kill();
                drop(timeout(KILL_WITHIN, child.wait_gone()).await);
                let said = console.map(said_so_far).unwrap_or_default();
                return Err(with_console(error, &said));
            }
        };

        let events = qmp.events();
        let (settle, settle_receiver) = mpsc::unbounded_channel();
        let run = Arc::new(Self {
            number,
            child,
            qmp,
            started_at: Instant::now(),
            timeouts: timeouts.clone(),
            status: status.clone(),
            cut: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            guest_shut_down: AtomicBool::new(false),
            crashed: AtomicBool::new(false),
            settle,
        });
        let following = Following { state, events, settle: settle_receiver };
        Ok(Started { run, console, following })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.status.is_live(self.number)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Waits until the run has ended and its state is final.
    pub(crate) async fn over(&self) {
        self.status.over(self.number).await;
    }

    /// Executes a QMP command with the configured deadline.
    pub(crate) async fn execute<C: qapi::Command + Send + Sync + 'static>(
        &self,
        command: C,
    ) -> Result<C::Ok> {
        match self.qmp.execute(command, self.timeouts.command.as_duration()).await {
            Err(error) if self.has_died(&error).await => Err(ended_early(&self.child)),
            answer => answer,
        }
    }

    /// Executes a QMP command; returns when the state reflects its effect.
    pub(crate) async fn execute_and_settle<C: qapi::Command + Send + Sync + 'static>(
        &self,
        command: C,
    ) -> Result<()> {
        self.execute(command).await?;
        let (settled, is_settled) = oneshot::channel();
        let told = self.settle.send(settled).is_ok();
        let within = self.timeouts.command;
        match timeout(within.as_duration(), is_settled).await {
            Ok(Ok(())) if told => return Ok(()),
            Err(_) => {
                let message = format!("the machine's state did not follow within {within}");
                return Err(Error::deadline_exceeded(message));
            }
            Ok(_) => {}
        }
        // The monitor task waits only for the process's end.
        Err(ended_early(&self.child))
    }

    /// Whether a command failed because QEMU has ended: QMP's end is often noticed first.
    async fn has_died(&self, error: &Error) -> bool {
        if error.kind() == ErrorKind::Unavailable {
            drop(timeout(LAG, self.child.wait()).await);
        }
        !self.child.is_running()
    }
}

/// The cause of a failed start: the process's own message is the better error.
async fn why_not_started(error: Error, child: &Child, timeouts: &Timeouts) -> Error {
    if error.kind() == ErrorKind::Unavailable {
        drop(timeout(LAG, child.wait()).await);
    }
    if !child.is_running() {
        return ended_early(child);
    }
    if error.kind() != ErrorKind::DeadlineExceeded {
        return error;
    }
    let said = child.stderr_tail();
    let said = said.trim();
    let said = if said.is_empty() { String::new() } else { format!("; QEMU said: {said}") };
    Error::deadline_exceeded(format!(
        "QEMU's monitor did not answer within {}{said}",
        timeouts.start
    ))
    .with_hint("raise `timeouts.start` on a slow host")
}

/// The error if QEMU ended during its start: its own message.
fn ended_early(child: &Child) -> Error {
    let said = child.stderr_tail();
    let said = said.trim();
    let status = child
        .try_status()
        .map_or_else(|| "its status is not known".to_owned(), |status| status.to_string());
    let message = if said.is_empty() { "it said nothing".to_owned() } else { said.to_owned() };
    let error = Error::internal(format!("QEMU ended: {status}: {message}"));
    let forbidden = child.try_status().and_then(|status| status.signal()) == Some(SIGSYS);
    match said {
        _ if forbidden => error.with_hint(
            "its sandbox forbade a system call: give `-sandbox` with `off`, or with what is needed, in `extra_args`",
        ),
        said if said.contains("host forwarding rule") => {
            error.with_hint("check that no other program listens on the ports of `hostfwd`")
        }
        _ => error,
    }
}

/// Adds the guest's last output to an error.
pub(crate) fn with_console(error: Error, lines: &str) -> Error {
    if lines.is_empty() {
        return error;
    }
    let quoting =
        Error::new(error.kind(), format!("{error:#}; the console's last lines:\n{lines}"));
    match error.hint() {
        Some(hint) => quoting.with_hint(hint),
        None => quoting,
    }
}

/// The last lines on a console that was not read yet.
fn said_so_far(console: UnixStream) -> String {
    let mut said = Vec::new();
    if let Ok(mut console) = console.into_std() {
        // Non-blocking: reads the available bytes.
        drop(console.read_to_end(&mut said));
    }
    let text = String::from_utf8_lossy(&said);
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}
