//! The task that follows one run of QEMU: its events become states, and its end the final one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jumpstarter_supervise::Signal;
use qapi::qmp::{RunState, StatusInfo};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::{KILL_WITHIN, Run};
use crate::qmp::QmpEvent;
use crate::state::{MachineState, Phase};

/// The hint for a guest that QEMU has paused because of a disk.
pub(crate) const STALLED_HINT: &str = "Make room where its images are (the exporter's TMPDIR; with `root_writes: persist` \
                                       beside the image), then `resume` it";

/// What was observed of a run and affects later events.
#[derive(Default)]
struct Seen {
    panicked: Option<String>,
    /// Why QEMU has stopped the guest, or is about to.
    stalled: Option<String>,
    /// The last message about a disk in the log.
    failed: Option<String>,
}

/// The state of a guest that is not running.
pub(super) fn paused(answer: &StatusInfo) -> MachineState {
    let failed = answer.status == RunState::io_error;
    let why =
        failed.then(|| "QEMU cannot read or write its disk: the host's may be full".to_owned());
    MachineState::Paused { why }
}

impl Run {
    /// Follows the run to its end.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut events: broadcast::Receiver<QmpEvent>,
        mut settle: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    ) {
        let mut seen = Seen::default();
        let mut monitored = true;
        loop {
            tokio::select! {
                biased;
                event = events.recv(), if monitored => match event {
                    Ok(event) => self.on_event(&event, &mut seen),
                    Err(broadcast::error::RecvError::Lagged(lost)) => self.resynchronise(lost).await,
                    Err(broadcast::error::RecvError::Closed) => {
                        monitored = false;
                        // QEMU has probably ended: a suspended guardian must report it.
                        self.child.signal(Signal::CONT);
                    }
                },
                _ = self.child.wait() => break,
                // Only if no event is waiting. The caller may have given up.
                Some(settled) = settle.recv() => drop(settled.send(())),
            }
        }
        drop(settle);
        // Wrapper processes and children of QEMU may outlive it, and hold its sockets.
        self.child.kill();
        // QMP's last messages have the reason: they are read to the end, which the process's end
        // brings.
        let rest = async {
            while let Ok(event) = events.recv().await {
                self.on_event(&event, &mut seen);
            }
            self.child.wait_gone().await;
        };
        if timeout(KILL_WITHIN, rest).await.is_err() {
            tracing::warn!(pid = self.child.pid(), "what QEMU has started does not end");
        }
        let last = self.final_state(seen.panicked);
        self.crashed.store(last.phase() == Phase::Crashed, Ordering::SeqCst);
        self.status.change(self.number, |_| Some(last));
    }

    fn on_event(&self, event: &QmpEvent, seen: &mut Seen) {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        match event.name.as_str() {
            "GUEST_PANICKED" => seen.panicked = Some("the guest panicked".to_owned()),
            // A guest that was kept after its panic starts again.
            "RESET" => seen.panicked = None,
            "BLOCK_IO_ERROR" => self.on_block_error(&event.data, seen),
            "RESUME" => seen.stalled = None,
            _ if reason == "guest-panic" => seen.panicked = Some("the guest panicked".to_owned()),
            "SHUTDOWN" if reason == "guest-shutdown" => {
                self.guest_shut_down.store(true, Ordering::SeqCst)
            }
            _ => {}
        }
        self.status.happened(self.number, &event.name, &event.data, |state| {
            match event.name.as_str() {
                "STOP" if *state == MachineState::Running => {
                    Some(MachineState::Paused { why: seen.stalled.clone() })
                }
                // It was already paused when the write failed.
                "BLOCK_IO_ERROR" if state.phase() == Phase::Paused && seen.stalled.is_some() => {
                    Some(MachineState::Paused { why: seen.stalled.clone() })
                }
                "RESUME" if state.phase() == Phase::Paused => Some(MachineState::Running),
                "SHUTDOWN" => Some(MachineState::Stopping),
                _ => None,
            }
        });
    }

    /// QEMU could not read or write a disk. By default it stops the guest if the host's disk is
    /// full, and otherwise reports the failure to the guest.
    fn on_block_error(&self, data: &Value, seen: &mut Seen) {
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
        let disk = if text("node-name").is_empty() { text("device") } else { text("node-name") };
        let (doing, why) = (text("operation"), text("reason"));
        let why = if data.get("nospace").and_then(Value::as_bool) == Some(true) {
            format!(
                "the host's disk is full: QEMU has no room for what the guest writes to its disk `{disk}`"
            )
        } else {
            format!("QEMU cannot {doing} the guest's disk `{disk}`: {why}")
        };
        let (machine, stops) = (self.status.name(), text("action") == "stop");
        // Each waiting request fails alike, and a guest may retry.
        if seen.failed.as_ref() != Some(&why) {
            match stops {
                true => tracing::warn!(machine, "{why}; the guest is paused. {STALLED_HINT}"),
                false => tracing::warn!(machine, "{why}; the guest sees the error"),
            }
        }
        if stops {
            seen.stalled = Some(why.clone());
        }
        seen.failed = Some(why);
    }

    /// Events were lost: asks QEMU for its state.
    async fn resynchronise(&self, lost: u64) {
        let count = serde_json::json!({ "count": lost });
        self.status.happened(self.number, "LOST", &count, |_| None);
        if let Ok(answer) =
            self.qmp.execute(qapi::qmp::query_status {}, self.timeouts.command.as_duration()).await
        {
            self.status.change(self.number, |state| match state {
                MachineState::Running if !answer.running => Some(paused(&answer)),
                MachineState::Paused { .. } if answer.running => Some(MachineState::Running),
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
                let why = format!("QEMU ended: {status}");
                MachineState::Crashed {
                    why: if said.is_empty() { why } else { format!("{why}: {said}") },
                }
            }
            None => MachineState::Crashed { why: "QEMU's end is not known".to_owned() },
        }
    }
}
