//! Ends a run: by a request to the guest, by QMP's `quit`, or by SIGKILL.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{StopPlan, SuperviseError};
use tokio::time::timeout;

use super::{KILL_WITHIN, Run};
use crate::state::{MachineState, Phase, StopOutcome};

/// How long after the process's end the state may take to be final.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

impl Run {
    /// Asks the guest over ACPI, then quits, then kills. Continues after the caller is cancelled.
    pub(crate) async fn stop(self: &Arc<Self>) -> Result<StopOutcome> {
        let paused = self.begin_stopping().is_some_and(|state| state.phase() == Phase::Paused);
        let (asked, quit, kill) = (self.clone(), self.clone(), self.clone());
        let powerdown = async move {
            if paused {
                // A paused guest cannot react to the button.
                asked.execute(qapi::qmp::cont {}).await?;
            }
            asked.execute(qapi::qmp::system_powerdown {}).await.map(drop)
        };
        let in_vain = async move {
            // The plan's last step, SIGKILL, follows at once.
            kill.killed.store(true, Ordering::SeqCst);
            Err::<(), _>("it is killed")
        };
        let plan = StopPlan::new()
            .ask("power button", self.timeouts.shutdown.as_duration(), powerdown)
            .ask("quit", self.timeouts.quit.as_duration(), async move { quit.quit().await })
            .ask("kill", Duration::from_secs(1), in_vain)
            .kill_within(KILL_WITHIN);
        match self.child.stop(plan).await {
            Err(SuperviseError::StillRunning { .. }) => return Err(self.still_there()),
            stopped => stopped.context("running QEMU")?,
        };
        self.ended().await?;
        Ok(self.outcome())
    }

    /// Waits for the final state of an ended run.
    async fn ended(&self) -> Result<()> {
        timeout(KILL_WITHIN + SETTLES_WITHIN, self.over()).await.map_err(|_| self.still_there())
    }

    fn still_there(&self) -> Error {
        let (pid, within) = (self.pid(), Span::from(KILL_WITHIN));
        let message = format!(
            "QEMU (process {pid}), or what it started, is still there {within} after SIGKILL"
        );
        Error::deadline_exceeded(message).with_hint(format!(
            "it may hang in the kernel (state D in `ps {pid}`), as on a disk that does not answer: mend that, then ask again"
        ))
    }

    /// Cuts the power: quits, then kills. Ends a running `stop` sooner. Continues after the caller
    /// is cancelled.
    pub(crate) async fn cut(self: &Arc<Self>) -> Result<StopOutcome> {
        self.begin_stopping();
        let run = self.clone();
        let cutting = tokio::spawn(async move {
            let quit = async {
                drop(run.quit().await);
                run.child.wait().await
            };
            if timeout(run.timeouts.quit.as_duration(), quit).await.is_err() {
                run.killed.store(true, Ordering::SeqCst);
                run.child.kill();
            }
            run.ended().await?;
            Ok(run.outcome())
        });
        cutting.await.map_err(|error| Error::internal("cutting the power").with_source(error))?
    }

    /// Makes the state `Stopping`, unless the run has ended, and returns the state before.
    fn begin_stopping(&self) -> Option<MachineState> {
        let mut was = None;
        self.status.change(self.number, |state| {
            was = Some(state.clone());
            Some(MachineState::Stopping)
        });
        was
    }

    async fn quit(&self) -> Result<()> {
        if self.child.is_running() {
            self.cut.store(true, Ordering::SeqCst);
        }
        self.execute(qapi::qmp::quit {}).await.map(drop)
    }

    /// Kills without waiting: for `Drop`.
    pub(crate) fn kill(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.child.kill();
    }

    /// How the finished run was ended.
    fn outcome(&self) -> StopOutcome {
        if self.guest_shut_down.load(Ordering::SeqCst) {
            StopOutcome::Graceful
        } else if self.killed.load(Ordering::SeqCst) {
            StopOutcome::Killed
        } else if self.crashed.load(Ordering::SeqCst) {
            StopOutcome::Crashed
        } else {
            StopOutcome::Cut
        }
    }
}
