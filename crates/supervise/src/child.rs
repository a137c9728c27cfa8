//! The handle to a running program.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{oneshot, watch};

use crate::command::{Command, Input, Sink};
use crate::control::{Control, KILL_ALL, SIGNAL_GROUP, SIGNAL_PROGRAM};
use crate::launch::launch;
use crate::launcher;
use crate::output::{Pump, Tail};
use crate::stopped::StopResult;
use crate::supervisor::{Life, Supervisor};
use crate::{ExitStatus, Signal, SuperviseError};

/// A handle to a program that was started with [`Command::spawn`]. Clones are handles to the same
/// program.
///
/// When the last handle is dropped, the program and its remaining descendants are killed. Dropping
/// never blocks; the program's guardian carries out the kill a moment later. A running
/// [`stop`](Child::stop) counts as a handle.
///
/// Descendants may outlive the program itself: they are killed with the last handle, or by a stop.
#[derive(Clone)]
pub struct Child {
    pub(crate) shared: Arc<Shared>,
}

/// Shared by all handles.
pub(crate) struct Shared {
    pub(crate) program: String,
    pub(crate) pid: u32,
    control: Control,
    life: watch::Receiver<Life>,
    pub(crate) killed: AtomicBool,
    pub(crate) stop: Mutex<Option<watch::Receiver<StopResult>>>,
    stdout: Tail,
    stderr: Tail,
    pipes: Mutex<Pipes>,
}

/// Ends of requested pipes that were not taken yet.
#[derive(Default)]
struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Command {
    /// Starts the program, and returns once it was executed.
    ///
    /// Takes about a millisecond. Dropping the future at any moment leaves no process behind:
    /// either nothing is started, or what was started is killed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SuperviseError::NotFound),
    /// [`PermissionDenied`](SuperviseError::PermissionDenied),
    /// [`Folder`](SuperviseError::Folder), [`Start`](SuperviseError::Start) when the system cannot
    /// start it, and [`NoRuntime`](SuperviseError::NoRuntime) outside a tokio runtime (with its
    /// IO enabled).
    pub async fn spawn(self) -> Result<Child, SuperviseError> {
        let program = self.name();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(SuperviseError::NoRuntime { program });
        };
        // Not on this thread: a fork takes a while, and an exec from a slow file system can take
        // long.
        let (send, started) = oneshot::channel();
        drop(runtime.spawn_blocking(move || {
            if !send.is_closed() {
                // Without a receiver this drops the handle, which kills the program.
                drop(send.send(Child::start(self)));
            }
        }));
        started.await.unwrap_or(Err(SuperviseError::NoRuntime { program }))
    }
}

impl Child {
    /// Starts the program and its watching task. Blocks for the time of the fork and the exec.
    fn start(mut command: Command) -> Result<Self, SuperviseError> {
        let program = command.name();
        let explain = |command: &Command, error| {
            SuperviseError::from_start(
                &command.name(),
                command.folder.as_deref(),
                command.hint.as_deref(),
                error,
            )
        };
        let mut stdout_sink = command.take_stdout();
        let mut stderr_sink = command.take_stderr();
        let stdin = std::mem::take(&mut command.stdin);
        let mut launched = match command.launcher.take() {
            Some(launcher) => {
                launcher::start(&command, &launcher, &stdin, &stdout_sink, &stderr_sink)?
            }
            None => launch(&command, &stdin, &mut stdout_sink, &mut stderr_sink)
                .map_err(|error| explain(&command, error))?,
        };

        let mut pipes = Pipes::default();
        match (launched.stdin.take(), stdin) {
            (Some(mut pipe), Input::Bytes(bytes)) => {
                drop(tokio::spawn(async move {
                    // A program that does not read all of its input is not an error here; the
                    // program reports it if it matters.
                    drop(pipe.write_all(&bytes).await);
                }));
            }
            (pipe, _) => pipes.stdin = pipe,
        }
        let (stdout, stderr) = (Tail::default(), Tail::default());
        let mut pumps = Vec::new();
        // An error below drops `launched`, and with it kills the program.
        let connect = || -> std::io::Result<_> {
            match (launched.stdout.take(), stdout_sink) {
                (Some(pipe), Sink::Piped) => pipes.stdout = Some(pipe),
                (Some(pipe), sink) => {
                    pumps.push(Pump::start(pipe.into_owned_fd()?, sink, stdout.clone())?)
                }
                (None, _) => {}
            }
            match (launched.stderr.take(), stderr_sink) {
                (Some(pipe), Sink::Piped) => pipes.stderr = Some(pipe),
                (Some(pipe), sink) => {
                    pumps.push(Pump::start(pipe.into_owned_fd()?, sink, stderr.clone())?)
                }
                (None, _) => {}
            }
            Receiver::from_owned_fd(launched.status)
        };
        let status = connect().map_err(|error| explain(&command, error))?;

        let (life_sender, life) = watch::channel(Life::default());
        let supervisor = Supervisor {
            program: program.clone(),
            pid: launched.pid,
            own_group: command.own_group,
            guard: launched.guard,
            status,
            pumps,
            life: life_sender,
        };
        drop(tokio::spawn(supervisor.run()));
        let shared = Shared {
            program,
            pid: launched.pid,
            control: launched.control,
            life,
            killed: AtomicBool::new(false),
            stop: Mutex::new(None),
            stdout,
            stderr,
            pipes: Mutex::new(pipes),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The program's process id. Once it has ended, the number may belong to another process:
    /// [`Child::signal`] cannot hit another.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// The program as it was named in the command.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.shared.program
    }

    /// How the program ended, if it has.
    #[must_use]
    pub fn try_status(&self) -> Option<ExitStatus> {
        self.shared.status()
    }

    /// Whether the program is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.try_status().is_none()
    }

    /// Waits for the program's end. Any number of callers may wait; cancelling changes nothing.
    ///
    /// When this returns, the tails and line callbacks have everything that the program wrote
    /// before it ended. Descendants may still run: see [`Child::wait_gone`].
    pub async fn wait(&self) -> ExitStatus {
        self.shared.wait().await
    }

    /// Waits until the program and all of its descendants have ended and are reaped. Cancelling
    /// changes nothing.
    pub async fn wait_gone(&self) {
        self.shared.wait_gone().await;
    }

    /// Sends the program a signal; returns false if it has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        self.is_running() && self.shared.control.order(SIGNAL_PROGRAM, signal.as_raw())
    }

    /// Sends the program's process group a signal; returns false if the program and its descendants
    /// have ended.
    ///
    /// After the program's own end the signal goes to its orphaned descendants (Linux).
    pub fn signal_group(&self, signal: Signal) -> bool {
        self.shared.control.order(SIGNAL_GROUP, signal.as_raw())
    }

    /// Kills the program and all of its descendants with SIGKILL, without waiting. A stop under way
    /// ends early.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// The end of what the program wrote to stdout, for [`Sink::Tail`] and [`Sink::Lines`]; else
    /// empty.
    #[must_use]
    pub fn stdout_tail(&self) -> String {
        self.shared.stdout.text()
    }

    /// The end of what the program wrote to stderr, for [`Sink::Tail`] and [`Sink::Lines`]; else
    /// empty.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.shared.stderr.text()
    }

    /// Takes the writing end of stdin, once, if [`Input::Piped`] was requested.
    #[must_use]
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.shared.pipes().stdin.take()
    }

    /// Takes the reading end of stdout, once, if [`Sink::Piped`] was requested.
    #[must_use]
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.shared.pipes().stdout.take()
    }

    /// Takes the reading end of stderr, once, if [`Sink::Piped`] was requested.
    #[must_use]
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.shared.pipes().stderr.take()
    }

    /// The kept part of stdout, for the output of a short tool.
    pub(crate) fn stdout_kept(&self) -> &Tail {
        &self.shared.stdout
    }
}

impl Shared {
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.life.borrow().status
    }

    pub(crate) async fn wait(&self) -> ExitStatus {
        let mut life = self.life.clone();
        // An error: the runtime was shut down, and the supervisor with it.
        life.wait_for(|life| life.status.is_some())
            .await
            .map_or(None, |life| life.status)
            .unwrap_or(ExitStatus::Unknown)
    }

    pub(crate) async fn wait_gone(&self) {
        let mut life = self.life.clone();
        drop(life.wait_for(|life| life.gone).await);
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.kill_rest();
    }

    /// Kills the remaining descendants.
    pub(crate) fn kill_rest(&self) {
        self.control.order(KILL_ALL, 0);
    }

    pub(crate) fn signal(&self, signal: Signal, group: bool) {
        self.control.order(if group { SIGNAL_GROUP } else { SIGNAL_PROGRAM }, signal.as_raw());
    }

    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("program", &self.shared.program)
            .field("pid", &self.shared.pid)
            .field("status", &self.try_status())
            .finish_non_exhaustive()
    }
}
