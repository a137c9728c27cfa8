//! One run of QEMU: from its start to its end. A monitor task follows the process and its QMP events and drives the
//! machine's state; it is the only writer of the states that follow `Starting`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Sink, StopPlan};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timeouts;
use crate::qmp::{Qmp, QmpEvent};
use crate::state::{MachineEvent, MachineState, StopOutcome};

/// How many events a slow reader may be behind before it loses the oldest.
const EVENT_BACKLOG: usize = 1024;

/// Bytes of QEMU's stderr that are kept for errors.
const STDERR_TAIL_BYTES: usize = 16 * 1024;

/// The state and the events of a machine, over all of its runs.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    state: watch::Sender<MachineState>,
    events: broadcast::Sender<MachineEvent>,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(MachineState::Off), events: broadcast::Sender::new(EVENT_BACKLOG) }
    }

    pub(crate) fn get(&self) -> MachineState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<MachineState> {
        self.state.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }

    pub(crate) fn set(&self, next: MachineState) {
        let changed = self.state.send_if_modified(|state| {
            let changed = *state != next;
            state.clone_from(&next);
            changed
        });
        if changed {
            tracing::info!(state = %next, "machine");
            self.emit("STATE", Value::Null);
        }
    }

    fn emit(&self, name: &str, data: Value) {
        let event = MachineEvent { name: name.to_owned(), state: self.get(), data };
        // No reader is not an error.
        drop(self.events.send(event));
    }
}

/// Back to `Off` unless the start succeeds: dropped when the start fails or is cancelled.
struct Starting<'a>(Option<&'a Status>);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(status) = self.0 {
            status.set(MachineState::Off);
        }
    }
}

/// What QEMU is started with, and our ends of the sockets that it is given.
pub(crate) struct Launch {
    pub(crate) command: Command,
    pub(crate) qmp: UnixStream,
    pub(crate) console: UnixStream,
}

/// QEMU while it runs.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    qmp: Qmp,
    started_at: Instant,
    timeouts: Timeouts,
    status: Status,
    /// We asked it to end: its end is no crash.
    asked_to_end: AtomicBool,
    /// The guest shut itself down.
    guest_shut_down: AtomicBool,
    ended: watch::Receiver<bool>,
}

impl Run {
    /// Starts QEMU and returns when QMP answers, with the guest's console. Dropping the future leaves no process.
    pub(crate) async fn start(
        launch: Launch,
        status: &Status,
        timeouts: &Timeouts,
    ) -> Result<(Arc<Self>, UnixStream)> {
        status.set(MachineState::Starting);
        let mut starting = Starting(Some(status));
        let deadline = Instant::now() + timeouts.start.as_duration();
        let command =
            launch.command.stderr(Sink::Tail(STDERR_TAIL_BYTES)).stdout(Sink::Tail(STDERR_TAIL_BYTES));
        let child = command.spawn().await.map_err(crate::from_supervise)?;

        let connected = tokio::select! {
            biased;
            connected = timeout_at(deadline, Qmp::start(launch.qmp, timeouts.start.as_duration())) => connected,
            _ = child.wait() => Ok(Err(ended_early(&child))),
        };
        let qmp = match connected {
            Ok(Ok(qmp)) => qmp,
            // QMP's end is often seen before the process's: what QEMU said is the better error.
            Ok(Err(error)) => {
                drop(timeout(Duration::from_millis(500), child.wait()).await);
                return Err(if child.is_running() { error } else { ended_early(&child) });
            }
            Err(_) => return Err(too_slow(&child, timeouts)),
        };

        let (ended_sender, ended) = watch::channel(false);
        let events = qmp.events();
        let run = Arc::new(Self {
            child,
            qmp,
            started_at: Instant::now(),
            timeouts: timeouts.clone(),
            status: status.clone(),
            asked_to_end: AtomicBool::new(false),
            guest_shut_down: AtomicBool::new(false),
            ended,
        });
        starting.0 = None;
        status.set(MachineState::Running);
        tokio::spawn(run.clone().follow(events, ended_sender));
        Ok((run, launch.console))
    }

    /// Follows the run to its end.
    async fn follow(self: Arc<Self>, mut events: broadcast::Receiver<QmpEvent>, ended: watch::Sender<bool>) {
        let mut panicked = None;
        let mut monitored = true;
        loop {
            tokio::select! {
                biased;
                event = events.recv(), if monitored => match event {
                    Ok(event) => self.on_event(&event, &mut panicked),
                    Err(broadcast::error::RecvError::Lagged(lost)) => self.resynchronise(lost).await,
                    Err(broadcast::error::RecvError::Closed) => monitored = false,
                },
                _ = self.child.wait() => break,
            }
        }
        // What QMP said last says why: it is read to its end, which the process's end brings.
        let rest = async {
            while let Ok(event) = events.recv().await {
                self.on_event(&event, &mut panicked);
            }
        };
        drop(timeout(Duration::from_secs(1), rest).await);
        self.child.wait_gone().await;
        self.status.set(self.final_state(panicked));
        ended.send_replace(true);
    }

    fn on_event(&self, event: &QmpEvent, panicked: &mut Option<String>) {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        let next = match event.name.as_str() {
            "STOP" if self.status.get() == MachineState::Running => Some(MachineState::Paused),
            "RESUME" if self.status.get() == MachineState::Paused => Some(MachineState::Running),
            "SHUTDOWN" => {
                if reason == "guest-shutdown" {
                    self.guest_shut_down.store(true, Ordering::SeqCst);
                }
                Some(MachineState::Stopping)
            }
            "GUEST_PANICKED" => {
                *panicked = Some("the guest panicked".to_owned());
                None
            }
            _ => None,
        };
        if reason == "guest-panic" {
            *panicked = Some("the guest panicked".to_owned());
        }
        self.status.emit(&event.name, event.data.clone());
        if let Some(next) = next {
            self.status.set(next);
        }
    }

    /// Events were lost: QEMU is asked what it is doing.
    async fn resynchronise(&self, lost: u64) {
        self.status.emit("LOST", serde_json::json!({ "count": lost }));
        if let Ok(answer) =
            self.qmp.execute(qapi::qmp::query_status {}, self.timeouts.command.as_duration()).await
        {
            let paused = !answer.running;
            match self.status.get() {
                MachineState::Running if paused => self.status.set(MachineState::Paused),
                MachineState::Paused if !paused => self.status.set(MachineState::Running),
                _ => {}
            }
        }
    }

    fn final_state(&self, panicked: Option<String>) -> MachineState {
        if let Some(why) = panicked {
            return MachineState::Crashed { why };
        }
        if self.asked_to_end.load(Ordering::SeqCst) || self.guest_shut_down.load(Ordering::SeqCst) {
            return MachineState::Off;
        }
        match self.child.try_status() {
            Some(status) if status.success() => MachineState::Off,
            Some(status) => {
                let said = self.child.stderr_tail();
                let said = said.trim();
                let why = format!("QEMU ended with {status}");
                MachineState::Crashed { why: if said.is_empty() { why } else { format!("{why}: {said}") } }
            }
            None => MachineState::Crashed { why: "QEMU's end is not known".to_owned() },
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !*self.ended.borrow()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Waits until the run is over and its state is final.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // A closed channel is an end too.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Executes a QMP command with the configured deadline.
    pub(crate) async fn execute<C: qapi::Command + Send + Sync + 'static>(
        &self,
        command: C,
    ) -> Result<C::Ok> {
        let deadline = self.timeouts.command.as_duration();
        match self.qmp.execute(command, deadline).await {
            Err(_) if !self.child.is_running() => Err(ended_early(&self.child)),
            answer => answer,
        }
    }

    /// Asks the guest over ACPI, then quits, then kills. Goes on when the caller is cancelled.
    pub(crate) async fn stop(self: &Arc<Self>) -> Result<StopOutcome> {
        self.asked_to_end.store(true, Ordering::SeqCst);
        let paused = self.status.get() == MachineState::Paused;
        self.status.set(MachineState::Stopping);
        let (asked, quit) = (self.clone(), self.clone());
        let powerdown = async move {
            if paused {
                // A guest that does not run cannot hear the button.
                asked.execute(qapi::qmp::cont {}).await?;
            }
            asked.execute(qapi::qmp::system_powerdown {}).await.map(drop)
        };
        let plan = StopPlan::new().ask("power button", self.timeouts.shutdown.as_duration(), powerdown).ask(
            "quit",
            self.timeouts.quit.as_duration(),
            async move { quit.quit().await },
        );
        let stopped = self.child.stop(plan).await.map_err(crate::from_supervise)?;
        self.ended().await;
        Ok(match stopped.by.as_deref() {
            _ if self.guest_shut_down.load(Ordering::SeqCst) => StopOutcome::Graceful,
            Some("quit") => StopOutcome::Cut,
            Some("power button") | None => StopOutcome::Graceful,
            Some(_) => StopOutcome::Killed,
        })
    }

    /// Cuts the power: quits, then kills. Hurries a `stop` that is under way. Goes on when the caller is cancelled.
    pub(crate) async fn cut(self: &Arc<Self>) -> Result<StopOutcome> {
        self.asked_to_end.store(true, Ordering::SeqCst);
        self.status.set(MachineState::Stopping);
        let run = self.clone();
        let cutting = tokio::spawn(async move {
            let quit = async {
                drop(run.quit().await);
                run.child.wait().await
            };
            let outcome = match timeout(run.timeouts.quit.as_duration(), quit).await {
                Ok(_) => StopOutcome::Cut,
                Err(_) => StopOutcome::Killed,
            };
            run.child.kill(); // also what QEMU may have started
            run.ended().await;
            outcome
        });
        cutting.await.map_err(|error| Error::internal("cutting the power").with_source(error))
    }

    async fn quit(&self) -> Result<()> {
        self.execute(qapi::qmp::quit {}).await.map(drop)
    }

    /// Kills without waiting: for `Drop`.
    pub(crate) fn kill(&self) {
        self.asked_to_end.store(true, Ordering::SeqCst);
        self.child.kill();
    }

    /// The deadline of one QMP command and what follows from it.
    pub(crate) fn command_deadline(&self) -> Duration {
        self.timeouts.command.as_duration()
    }
}

/// QEMU ended when it should have run: its own words are the error.
fn ended_early(child: &Child) -> Error {
    let said = child.stderr_tail();
    let said = said.trim();
    let status =
        child.try_status().map_or_else(|| "an unknown status".to_owned(), |status| status.to_string());
    let message = if said.is_empty() { "it said nothing".to_owned() } else { said.to_owned() };
    Error::internal(format!("QEMU ended with {status}: {message}"))
}

fn too_slow(child: &Child, timeouts: &Timeouts) -> Error {
    let said = child.stderr_tail();
    let said = said.trim();
    let said = if said.is_empty() { String::new() } else { format!("; QEMU said: {said}") };
    Error::deadline_exceeded(format!("QEMU's monitor did not answer within {}{said}", timeouts.start))
        .with_hint("raise `timeouts.start` on a slow host")
}
