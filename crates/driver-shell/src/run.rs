//! One run of a script: its output, its end, and its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, stream};
use jumpstarter_driver_core::{Error, Result, ShellOutput};
use jumpstarter_supervise::{Child, ExitStatus, Signal, StopPlan, SuperviseError};
use tokio::process::{ChildStderr, ChildStdout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::text::Output;

/// How long a script may take to end after SIGTERM.
const TERM_WITHIN: Duration = Duration::from_secs(5);
/// The exit code of a method that exceeded its timeout, as in Python.
const TIMED_OUT: i32 = 199;

/// A running script. Dropping it kills the script and all of its descendants.
#[derive(Debug)]
pub(crate) struct Run {
    method: String,
    child: Child,
    limit: Duration,
    stdout: Output<ChildStdout>,
    stderr: Output<ChildStderr>,
    /// The exit status, once the script has ended.
    status: Option<ExitStatus>,
    is_overdue: Arc<AtomicBool>,
    closed: CancellationToken,
    /// Ends the script at its timeout, and when the driver is closed, even if nobody reads the
    /// output.
    watch: Option<AbortOnDropHandle<Result<(), SuperviseError>>>,
}

impl Run {
    pub(crate) fn new(
        method: String,
        child: Child,
        limit: Duration,
        closed: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let is_overdue = Arc::new(AtomicBool::new(false));
        let watch = tasks.spawn(watch(child.clone(), limit, closed.clone(), is_overdue.clone()));
        Self {
            method,
            stdout: Output::new(child.take_stdout()),
            stderr: Output::new(child.take_stderr()),
            child,
            limit,
            status: None,
            is_overdue,
            closed,
            watch: Some(AbortOnDropHandle::new(watch)),
        }
    }

    /// The output; the last item has the exit code.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<ShellOutput>> {
        stream::try_unfold(Some(self), |run| async {
            let Some(mut run) = run else { return Ok(None) };
            let output = run.next().await?;
            let rest = output.exit_code.is_none().then_some(run);
            Ok(Some((output, rest)))
        })
    }

    async fn next(&mut self) -> Result<ShellOutput> {
        while self.status.is_none() || self.stdout.is_open() || self.stderr.is_open() {
            tokio::select! {
                text = self.stdout.read(), if self.stdout.is_open() => if !text.is_empty() {
                    return Ok(ShellOutput { stdout: text, ..ShellOutput::default() });
                },
                text = self.stderr.read(), if self.stderr.is_open() => if !text.is_empty() {
                    return Ok(ShellOutput { stderr: text, ..ShellOutput::default() });
                },
                status = self.child.wait(), if self.status.is_none() => {
                    self.status = Some(status);
                    // Processes that it left would keep its output open.
                    self.child.kill();
                }
                stopped = ended(&mut self.watch) => stopped?,
            }
        }
        self.end()
    }

    fn end(&self) -> Result<ShellOutput> {
        let method = &self.method;
        if self.closed.is_cancelled() {
            let message = format!("`{method}` was ended, because the driver is closed");
            return Err(Error::unavailable(message));
        }
        if self.is_overdue.load(Ordering::SeqCst) {
            let limit = self.limit;
            tracing::warn!("{method} did not end within {limit:?} and was ended");
            let stderr = format!(
                "\nTimeout expired while running {method}: it did not end within {limit:?}\n"
            );
            return Ok(ShellOutput {
                stderr,
                exit_code: Some(TIMED_OUT),
                ..ShellOutput::default()
            });
        }
        let exit_code = match self.status {
            Some(ExitStatus::Code(code)) => code,
            Some(ExitStatus::Signal(signal)) => -signal,
            _ => return Err(Error::internal(format!("the exit status of `{method}` is unknown"))),
        };
        if exit_code != 0 {
            tracing::info!("{method} return code: {exit_code}");
        }
        Ok(ShellOutput { exit_code: Some(exit_code), ..ShellOutput::default() })
    }
}

/// Ends the script at its timeout, or when the driver is closed.
async fn watch(
    child: Child,
    limit: Duration,
    closed: CancellationToken,
    is_overdue: Arc<AtomicBool>,
) -> Result<(), SuperviseError> {
    tokio::select! {
        // A script that has ended is not late, however late that is noticed.
        biased;
        _ = child.wait() => return Ok(()),
        () = tokio::time::sleep(limit) => is_overdue.store(true, Ordering::SeqCst),
        () = closed.cancelled() => {}
    }
    child.stop(StopPlan::new().signal_group(Signal::TERM, TERM_WITHIN)).await.map(drop)
}

/// Waits for the end of the watch, once; an error means that the script could not be ended.
async fn ended(watch: &mut Option<AbortOnDropHandle<Result<(), SuperviseError>>>) -> Result<()> {
    let Some(running) = watch else { return std::future::pending().await };
    let outcome = running.await;
    *watch = None;
    match outcome {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Error::internal("the watch over a script ended").with_source(error)),
    }
}
