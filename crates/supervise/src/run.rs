//! Runs a short tool to its end.

use std::time::Duration;

use crate::command::DEFAULT_TAIL;
use crate::{Child, Command, ExitStatus, Input, Sink, StopPlan, SuperviseError};

/// The default limit of a tool's stdout, in bytes.
const STDOUT_LIMIT: usize = 16 * 1024 * 1024;

/// How long the processes that a tool left may take to end.
const LEFTOVERS_WITHIN: Duration = Duration::from_secs(2);

/// The output of a tool, and its exit status.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Output {
    /// The exit status; never a failure after [`run`].
    pub status: ExitStatus,
    /// Its complete stdout.
    pub stdout: Vec<u8>,
    /// The last part of its stderr.
    pub stderr: String,
}

impl Output {
    /// Its stdout as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a tool to its end, which must come within `deadline` and be a success.
///
/// Its stdout is returned, up to 16 MiB or the limit of the command's [`Sink::Tail`]. Processes
/// that it left are killed. Dropping the future kills the tool and all of its descendants.
///
/// # Errors
///
/// The errors of [`Command::spawn`], [`Failed`](SuperviseError::Failed) for any end but exit code
/// 0, [`Deadline`](SuperviseError::Deadline), [`OutputTooLarge`](SuperviseError::OutputTooLarge).
pub async fn run(command: Command, deadline: Duration) -> Result<Output, SuperviseError> {
    let program = command.name();
    let output = run_unchecked(command, deadline).await?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = match output.stderr.trim().is_empty() {
        true => {
            let start = output.stdout.len().saturating_sub(DEFAULT_TAIL);
            String::from_utf8_lossy(&output.stdout[start..]).into_owned()
        }
        false => output.stderr,
    };
    Err(SuperviseError::Failed { program, status: output.status, stderr })
}

/// As [`run`], but accepts any exit status: for tools whose exit code is an answer.
///
/// # Errors
///
/// The errors of [`run`], without [`Failed`](SuperviseError::Failed).
pub async fn run_unchecked(
    mut command: Command,
    deadline: Duration,
) -> Result<Output, SuperviseError> {
    let sink = command.stdout.take().unwrap_or(Sink::Tail(STDOUT_LIMIT));
    let limit = if let Sink::Tail(limit) = sink { limit } else { usize::MAX };
    let child = command.stdout(sink).spawn().await?;
    let Ok(status) = tokio::time::timeout(deadline, child.wait()).await else {
        return Err(overdue(&child, deadline).await);
    };
    child.leave_nothing().await;
    if limit != usize::MAX && child.stdout_kept().is_cut() {
        return Err(SuperviseError::OutputTooLarge { program: child.program().to_owned(), limit });
    }
    Ok(Output { status, stdout: child.stdout_kept().bytes(), stderr: child.stderr_tail() })
}

impl Child {
    /// Kills the processes that an ended program left, and gives them and the guardian a moment to
    /// end.
    async fn leave_nothing(&self) {
        self.shared.kill_rest();
        // The guardian kills a process that is stuck in the kernel later.
        tokio::time::timeout(LEFTOVERS_WITHIN, self.shared.wait_gone()).await.ok();
    }
}

async fn overdue(child: &Child, deadline: Duration) -> SuperviseError {
    match child.stop(StopPlan::new()).await {
        Ok(_) => SuperviseError::Deadline {
            program: child.program().to_owned(),
            deadline,
            stderr: child.stderr_tail(),
        },
        Err(error) => error,
    }
}

/// As [`run`], for programs without an async runtime. Blocks; callable from anywhere.
///
/// # Errors
///
/// The errors of [`run`].
pub fn run_blocking(command: Command, deadline: Duration) -> Result<Output, SuperviseError> {
    block_on(command.name(), run(command, deadline))
}

impl Command {
    /// Runs an interactive program: it has this process's terminal, and Ctrl-C reaches both. Blocks
    /// until the program ends, without a limit; callable with and without an async runtime.
    /// Processes that it left are killed.
    ///
    /// Streams that were set on the command stay as set; the others are this process's.
    ///
    /// # Errors
    ///
    /// The errors of [`Command::spawn`]. Every exit status is accepted.
    pub fn status_inherit(mut self) -> Result<ExitStatus, SuperviseError> {
        if matches!(self.stdin, Input::Null) {
            self.stdin = Input::Inherit;
        }
        self.stdout.get_or_insert(Sink::Inherit);
        self.stderr.get_or_insert(Sink::Inherit);
        block_on(self.name(), async {
            let child = self.in_our_group().spawn().await?;
            let status = child.wait().await;
            child.leave_nothing().await;
            Ok(status)
        })
    }
}

/// Runs a future to its end on a new thread with a new runtime, so that it can be called anywhere.
fn block_on<T: Send>(
    program: String,
    future: impl Future<Output = Result<T, SuperviseError>> + Send,
) -> Result<T, SuperviseError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.ok().map(|runtime| runtime.block_on(future))
        });
        thread.join().ok().flatten().unwrap_or(Err(SuperviseError::NoRuntime { program }))
    })
}
