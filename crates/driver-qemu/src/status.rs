//! The state and the events of a machine, over all of its runs. A change belongs to one run, and is
//! made only while that run is the current one and has not ended: a late change cannot affect the
//! next run.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::state::{MachineEvent, MachineState, Phase};

/// How many events a slow reader may be behind before it loses the oldest.
const EVENT_BACKLOG: usize = 1024;

/// The name of the event of a change of state.
pub(crate) const STATE: &str = "STATE";

#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// The machine's name, for the log.
    name: Arc<str>,
    current: watch::Sender<Current>,
    events: broadcast::Sender<MachineEvent>,
}

/// The state of a machine, and the number of its run.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) state: MachineState,
    run: RunNumber,
}

/// One run of a machine, counted from its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunNumber(u64);

impl Current {
    /// Whether that run is the current one. Its final state is its end: nothing comes between the
    /// two.
    fn is_live(&self, run: RunNumber) -> bool {
        self.run == run && !self.state.is_over()
    }
}

impl Status {
    /// The status of the machine of that name, which is off.
    pub(crate) fn new(name: &str) -> Self {
        let current = watch::Sender::new(Current { state: MachineState::Off, run: RunNumber(0) });
        Self { name: name.into(), current, events: broadcast::Sender::new(EVENT_BACKLOG) }
    }

    /// The machine's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn get(&self) -> MachineState {
        self.current.borrow().state.clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }

    /// Begins a new run. The run ends when the returned value is dropped before
    /// [`Starting::succeeded`].
    pub(crate) fn begin(&self) -> Starting {
        let mut run = RunNumber(0);
        self.current.send_modify(|current| {
            run = RunNumber(current.run.0 + 1);
            *current = Current { state: MachineState::Starting, run };
            self.tell_state(&current.state);
        });
        Starting { status: self.clone(), run, succeeded: false }
    }

    /// Makes the change that `next` returns, if any, unless the run has ended.
    pub(crate) fn change(
        &self,
        run: RunNumber,
        next: impl FnOnce(&MachineState) -> Option<MachineState>,
    ) {
        self.current.send_if_modified(|current| {
            let next = if current.is_live(run) { next(&current.state) } else { None };
            self.replace(current, next)
        });
    }

    /// As [`Status::change`], caused by an event of QEMU: readers get the event with the new state,
    /// and then the change.
    pub(crate) fn happened(
        &self,
        run: RunNumber,
        name: &str,
        data: &Value,
        next: impl FnOnce(&MachineState) -> Option<MachineState>,
    ) {
        self.current.send_if_modified(|current| {
            let next = if current.is_live(run) { next(&current.state) } else { None };
            let after = next.as_ref().unwrap_or(&current.state);
            self.tell(MachineEvent {
                name: name.to_owned(),
                state: after.clone(),
                data: data.clone(),
            });
            self.replace(current, next)
        });
    }

    /// Makes a crashed machine off, after the crash was noticed.
    pub(crate) fn clear_crash(&self) {
        self.current.send_if_modified(|current| {
            let crashed = current.state.phase() == Phase::Crashed;
            self.replace(current, crashed.then_some(MachineState::Off))
        });
    }

    /// Sets the last state. A current run has ended.
    pub(crate) fn destroy(&self) {
        self.current
            .send_if_modified(|current| self.replace(current, Some(MachineState::Destroyed)));
    }

    pub(crate) fn is_live(&self, run: RunNumber) -> bool {
        self.current.borrow().is_live(run)
    }

    /// Waits until the run has its final state.
    pub(crate) async fn over(&self, run: RunNumber) {
        let mut current = self.current.subscribe();
        // The channel cannot be closed: we have its sender.
        drop(current.wait_for(|current| !current.is_live(run)).await);
    }

    fn replace(&self, current: &mut Current, next: Option<MachineState>) -> bool {
        match next {
            Some(next) if next != current.state => {
                current.state = next;
                self.tell_state(&current.state);
                true
            }
            _ => false,
        }
    }

    fn tell_state(&self, state: &MachineState) {
        match state {
            // At an exporter's end the way back is not logged.
            MachineState::Destroyed => {
                tracing::info!(machine = &*self.name, state = "destroyed", "machine")
            }
            state => tracing::info!(machine = &*self.name, %state, "machine"),
        }
        self.tell(MachineEvent { name: STATE.to_owned(), state: state.clone(), data: Value::Null });
    }

    fn tell(&self, event: MachineEvent) {
        // An event without a reader is fine.
        drop(self.events.send(event));
    }
}

/// A run that is starting; dropping it ends the run, and the machine is off.
#[derive(Debug)]
pub(crate) struct Starting {
    status: Status,
    run: RunNumber,
    succeeded: bool,
}

impl Starting {
    pub(crate) fn run(&self) -> RunNumber {
        self.run
    }

    /// QEMU answers: from here on its monitor task ends the run.
    pub(crate) fn succeeded(mut self, state: MachineState) {
        self.succeeded = true;
        // A concurrent stop may already have set `Stopping`; keep it.
        self.status.change(self.run, |now| (*now == MachineState::Starting).then_some(state));
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.succeeded {
            self.status.change(self.run, |_| Some(MachineState::Off));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_changes_nothing() {
        let status = Status::new("test");
        let starting = status.begin();
        let first = starting.run();
        starting.succeeded(MachineState::Running);
        assert!(status.is_live(first));
        status.change(first, |_| Some(MachineState::Off));
        assert!(!status.is_live(first));
        status.change(first, |_| Some(MachineState::Stopping));
        assert_eq!(status.get(), MachineState::Off);

        let starting = status.begin();
        let second = starting.run();
        status.change(first, |_| Some(MachineState::Stopping));
        status.happened(first, "STOP", &Value::Null, |_| Some(MachineState::PAUSED));
        assert_eq!(status.get(), MachineState::Starting);
        assert!(status.is_live(second) && !status.is_live(first));
        status.change(second, |_| Some(MachineState::Stopping));
        starting.succeeded(MachineState::Running);
        assert_eq!(status.get(), MachineState::Stopping);
    }

    #[test]
    fn a_start_that_fails_is_over_and_a_crash_is_cleared_once() {
        let status = Status::new("test");
        drop(status.begin());
        assert_eq!(status.get(), MachineState::Off);
        let starting = status.begin();
        let run = starting.run();
        starting.succeeded(MachineState::Running);
        status.clear_crash();
        assert_eq!(status.get(), MachineState::Running);
        status.change(run, |_| Some(MachineState::Crashed { why: "so".to_owned() }));
        status.clear_crash();
        assert_eq!(status.get(), MachineState::Off);
    }

    #[test]
    fn an_event_comes_with_the_state_after_it_and_before_the_change() {
        let status = Status::new("test");
        let starting = status.begin();
        let run = starting.run();
        starting.succeeded(MachineState::Running);
        let mut events = status.events();
        status.happened(run, "STOP", &Value::Null, |_| Some(MachineState::PAUSED));
        for name in ["STOP", STATE] {
            let event = events.try_recv().unwrap();
            assert_eq!((event.name.as_str(), event.state), (name, MachineState::PAUSED));
        }
        assert!(events.try_recv().is_err());
    }
}
