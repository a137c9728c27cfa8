//! The task that follows one run of QEMU: its events become states, and its end the final one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::{KILL_WITHIN, Run};
use crate::qmp::QmpEvent;
use crate::state::{MachineState, Phase};

impl Run {
    /// Follows the run to its end.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut events: broadcast::Receiver<QmpEvent>,
        mut settle: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    ) {
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
                // Only when no event is waiting. Who gave up meanwhile is no error.
                Some(settled) = settle.recv() => drop(settled.send(())),
            }
        }
        drop(settle);
        // What QEMU was started through, or has started, may outlive it; and may hold its sockets.
        self.child.kill();
        // What QMP said last says why: it is read to its end, which the process's end brings.
        let rest = async {
            while let Ok(event) = events.recv().await {
                self.on_event(&event, &mut panicked);
            }
        };
        drop(timeout(Duration::from_secs(1), rest).await);
        if timeout(KILL_WITHIN, self.child.wait_gone()).await.is_err() {
            tracing::warn!(pid = self.child.pid(), "what QEMU has started does not end");
        }
        let last = self.final_state(panicked);
        self.crashed.store(last.phase() == Phase::Crashed, Ordering::SeqCst);
        self.status.change(self.number, |_| Some(last));
    }

    fn on_event(&self, event: &QmpEvent, panicked: &mut Option<String>) {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        match event.name.as_str() {
            "GUEST_PANICKED" => *panicked = Some("the guest panicked".to_owned()),
            // A guest that was kept after its panic begins anew.
            "RESET" => *panicked = None,
            _ if reason == "guest-panic" => *panicked = Some("the guest panicked".to_owned()),
            "SHUTDOWN" if reason == "guest-shutdown" => self.guest_shut_down.store(true, Ordering::SeqCst),
            _ => {}
        }
        self.status.happened(self.number, &event.name, &event.data, |state| match event.name.as_str() {
            "STOP" if *state == MachineState::Running => Some(MachineState::Paused),
            "RESUME" if *state == MachineState::Paused => Some(MachineState::Running),
            "SHUTDOWN" => Some(MachineState::Stopping),
            _ => None,
        });
    }

    /// Events were lost: QEMU is asked what it is doing.
    async fn resynchronise(&self, lost: u64) {
        let count = serde_json::json!({ "count": lost });
        self.status.happened(self.number, "LOST", &count, |_| None);
        if let Ok(answer) =
            self.qmp.execute(qapi::qmp::query_status {}, self.timeouts.command.as_duration()).await
        {
            self.status.change(self.number, |state| match state {
                MachineState::Running if !answer.running => Some(MachineState::Paused),
                MachineState::Paused if answer.running => Some(MachineState::Running),
                _ => None,
            });
        }
    }

    fn final_state(&self, panicked: Option<String>) -> MachineState {
        if self.cut.load(Ordering::SeqCst) {
            return MachineState::Off;
        }
        if let Some(why) = panicked {
            return MachineState::Crashed { why };
        }
        if self.guest_shut_down.load(Ordering::SeqCst) {
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
}
