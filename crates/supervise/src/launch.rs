//! Starts a program under a guardian: processes are made only here.
#![expect(
    unsafe_code,
    reason = "std lets code run between fork and exec only through an unsafe function"
)]

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::command::{Command, Input, Sink};
use crate::control::Control;
use crate::environment;
use crate::guardian::{Setup, split};
use crate::open_files;
use crate::orphans::Own;

/// A started program, and all that is needed to own it.
pub(crate) struct Launched {
    pub(crate) guard: Guard,
    /// The other ends of the program's standard streams, where it has pipes.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    /// Dropping this kills the program.
    pub(crate) control: Control,
    /// The program's wait status will come here, in four bytes.
    pub(crate) status: OwnedFd,
    /// The program's process id.
    pub(crate) pid: u32,
}

/// What owns a program, and ends after it.
pub(crate) enum Guard {
    /// The guardian, this process's direct child, until it is reaped.
    Guardian { process: tokio::process::Child, _own: Own },
    /// The connection to a launcher.
    Bridge(JoinHandle<()>),
}

impl Guard {
    /// Waits until the program and all that it left have ended.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        match self {
            Self::Guardian { process, .. } => process.wait().await.map(drop),
            Self::Bridge(bridge) => {
                // An error: the runtime was shut down, which closes the connection.
                bridge.await.ok();
                Ok(())
            }
        }
    }
}

/// Starts the program; returns once it was executed, or with the reason for the failure.
///
/// Must be called in the context of a runtime. Takes the sinks' files out of the command, and
/// blocks for the time of two forks and an exec.
pub(crate) fn launch(
    command: &Command,
    stdin: &Input,
    stdout: &mut Sink,
    stderr: &mut Sink,
) -> io::Result<Launched> {
    let (orders, control) = io::pipe()?;
    let (mut status, reports) = io::pipe()?;
    let setup = Setup {
        orders: orders.as_raw_fd(),
        control: control.as_raw_fd(),
        reports: reports.as_raw_fd(),
        own_group: command.own_group,
        open_files: open_files::limit_of_programs(),
        kept: command.kept_numbers(),
    };

    #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
    let mut process = tokio::process::Command::new(&command.program);
    process.args(&command.args);
    if command.env_clear {
        process.env_clear();
    } else {
        for name in environment::secrets() {
            process.env_remove(name);
        }
    }
    for (name, value) in &command.env {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    match &command.folder {
        Some(folder) => drop(process.current_dir(folder)),
        // Programs that ask for the current folder fail in a deleted one.
        None if current_folder_is_deleted() => drop(process.current_dir("/")),
        None => {}
    }
    process.stdin(match stdin {
        Input::Null => Stdio::null(),
        Input::Inherit => Stdio::inherit(),
        Input::Piped | Input::Bytes(_) => Stdio::piped(),
    });
    process.stdout(stream(stdout)).stderr(stream(stderr));
    // SAFETY: `split` keeps to what is allowed between fork and exec; the pipes are open until
    // after the spawn, and above 2, because a Rust program starts with 0, 1 and 2 open.
    unsafe { process.pre_exec(move || split(&setup)) };

    // Without kill_on_drop, which would kill the guardian. Closing `control` makes it kill what it
    // guards.
    let (mut guardian, own) = Own::start(|| process.spawn())?;
    // The guardian is not reaped yet, so its number is still its own.
    let control = Control::new(control.into(), guardian.id())?;
    drop((orders, reports));
    let mut pid = [0; 4];
    status.read_exact(&mut pid)?;
    let pid = u32::from_ne_bytes(pid);
    let (stdin, stdout) = (guardian.stdin.take(), guardian.stdout.take());
    let stderr = guardian.stderr.take();
    let guard = Guard::Guardian { process: guardian, _own: own };
    Ok(Launched { guard, stdin, stdout, stderr, control, status: status.into(), pid })
}

fn current_folder_is_deleted() -> bool {
    std::env::current_dir().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn stream(sink: &mut Sink) -> Stdio {
    match std::mem::replace(sink, Sink::Null) {
        Sink::Null => Stdio::null(),
        Sink::Inherit => Stdio::inherit(),
        Sink::File(file) => Stdio::from(file),
        kept @ (Sink::Piped | Sink::Tail(_) | Sink::Lines(_)) => {
            *sink = kept;
            Stdio::piped()
        }
    }
}
