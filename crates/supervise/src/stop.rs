//! Stops a program: a given order of steps, each with its deadline, and SIGKILL at the end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::child::{Child, Shared};
use crate::status::signal_name;
use crate::stopped::{StopResult, Stopped};
use crate::{Signal, SuperviseError};

/// How long killed processes may take to end, by default.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// The steps by which a program is stopped, in order; the last is always SIGKILL to it and all of
/// its descendants.
///
/// ```
/// use std::time::Duration;
/// use jumpstarter_supervise::{Signal, StopPlan};
///
/// let seconds = Duration::from_secs;
/// let plan = StopPlan::new()
///     .ask("system_powerdown", seconds(20), async { Ok::<(), String>(()) })
///     .signal(Signal::TERM, seconds(5));
/// assert_eq!(plan.to_string(), "system_powerdown (20s), SIGTERM (5s), SIGKILL");
/// ```
pub struct StopPlan {
    steps: Vec<Step>,
    kill_within: Duration,
}

struct Step {
    name: String,
    within: Duration,
    action: Action,
}

enum Action {
    Ask(Pin<Box<dyn Future<Output = Result<(), String>> + Send>>),
    Signal { signal: Signal, group: bool },
}

impl StopPlan {
    /// A plan with SIGKILL as its only step.
    #[must_use]
    pub fn new() -> Self {
        Self { steps: Vec::new(), kill_within: KILL_WITHIN }
    }

    /// SIGTERM to the program, which then has `within` to end, and SIGKILL.
    #[must_use]
    pub fn terminate(within: Duration) -> Self {
        Self::new().signal(Signal::TERM, within)
    }

    /// Asks the program to end with `request`, and waits for its end, for `within` in total.
    ///
    /// If `request` fails, the next step follows at once. It is dropped when the program ends or
    /// the time has passed.
    #[must_use]
    pub fn ask<R, E>(mut self, name: impl Into<String>, within: Duration, request: R) -> Self
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let request = async move { request.await.map_err(|error| error.to_string()) };
        self.steps.push(Step { name: name.into(), within, action: Action::Ask(Box::pin(request)) });
        self
    }

    /// Sends the program a signal, and waits `within` for its end.
    #[must_use]
    pub fn signal(self, signal: Signal, within: Duration) -> Self {
        self.push_signal(signal, within, false)
    }

    /// Sends the program's process group a signal, and waits `within` for the program's end.
    #[must_use]
    pub fn signal_group(self, signal: Signal, within: Duration) -> Self {
        self.push_signal(signal, within, true)
    }

    /// Sets how long killed processes may take to end before the stop fails; default: 10 s.
    #[must_use]
    pub fn kill_within(mut self, within: Duration) -> Self {
        self.kill_within = within;
        self
    }

    fn push_signal(mut self, signal: Signal, within: Duration, group: bool) -> Self {
        let mut name = signal_name(signal.as_raw());
        if group {
            name.push_str(" to the group");
        }
        self.steps.push(Step { name, within, action: Action::Signal { signal, group } });
        self
    }
}

impl Default for StopPlan {
    /// SIGTERM, and after 5 s SIGKILL.
    fn default() -> Self {
        Self::terminate(Duration::from_secs(5))
    }
}

impl fmt::Display for StopPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "{} ({:?}), ", step.name, step.within)?;
        }
        write!(f, "SIGKILL")
    }
}

impl fmt::Debug for StopPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StopPlan({self})")
    }
}

impl Child {
    /// Stops the program by the steps of `plan`, kills its remaining descendants, and returns when
    /// all have ended; at once if they already have.
    ///
    /// Once started, the stop continues by itself: dropping the future does not end it, nor does
    /// dropping all handles. Concurrent and later calls get the same result, and their plans are
    /// not used; to end a stop that takes too long use [`Child::kill`]. A failed stop may be tried
    /// again.
    ///
    /// # Errors
    ///
    /// [`StillRunning`](SuperviseError::StillRunning) if even SIGKILL did not end everything in
    /// time, [`NoRuntime`](SuperviseError::NoRuntime) if the runtime is shut down meanwhile.
    pub async fn stop(&self, plan: StopPlan) -> Result<Stopped, SuperviseError> {
        let mut result = self.begin_stop(plan);
        match result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            _ => Err(SuperviseError::NoRuntime { program: self.shared.program.clone() }),
        }
    }

    /// Joins the stop that is running or finished, or starts one.
    fn begin_stop(&self, plan: StopPlan) -> watch::Receiver<StopResult> {
        let mut current = self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = &*current
            && !matches!(&*stop.borrow(), Some(Err(_)))
        {
            return stop.clone();
        }
        let (sender, receiver) = watch::channel(None);
        let shared = Arc::clone(&self.shared);
        drop(tokio::spawn(async move {
            let result = run(&shared, plan).await;
            sender.send_replace(Some(result));
        }));
        *current = Some(receiver.clone());
        receiver
    }
}

async fn run(shared: &Shared, plan: StopPlan) -> Result<Stopped, SuperviseError> {
    let mut in_vain = Vec::new();
    let mut by = None;
    if shared.status().is_none() {
        by = Some("SIGKILL".to_owned());
        for step in plan.steps {
            match attempt(shared, step.action, step.within).await {
                Ok(()) if shared.killed.load(Ordering::Relaxed) => break,
                Ok(()) => {
                    by = Some(step.name);
                    break;
                }
                Err(reason) => in_vain.push(format!("{} ({reason})", step.name)),
            }
        }
    }
    shared.kill_rest();
    let gone = async {
        let status = shared.wait().await;
        shared.wait_gone().await;
        status
    };
    match timeout(plan.kill_within, gone).await {
        Ok(status) => Ok(Stopped { by, status, in_vain }),
        Err(_) => Err(SuperviseError::StillRunning {
            program: shared.program.clone(),
            pid: shared.pid,
            waited: plan.kill_within,
        }),
    }
}

/// Takes one step; returns when the program has ended, or with the reason why it has not.
async fn attempt(shared: &Shared, action: Action, within: Duration) -> Result<(), String> {
    let acted_and_ended = async {
        match action {
            Action::Ask(request) => {
                tokio::select! {
                    biased;
                    _ = shared.wait() => return Ok(()),
                    answer = request => answer?,
                }
            }
            Action::Signal { signal, group } => shared.signal(signal, group),
        }
        shared.wait().await;
        Ok(())
    };
    timeout(within, acted_and_ended).await.unwrap_or_else(|_| Err(format!("not within {within:?}")))
}
