//! The state of a machine, its events, and how it was stopped.

use std::fmt;

use jumpstarter_driver_core::prelude::*;
use serde_json::Value;

/// The state of a machine, driven by QMP events and by the process.
///
/// ```text
///        start                    guest's or our shutdown
///  Off ────────▶ Starting ──▶ Running ──────────▶ Stopping ──▶ Off
///   ▲               │          │  ▲                  │
///   │               ▼     pause▼  │resume            ▼
///   └────────── (error)       Paused            Crashed{why} ──start──▶ Starting
/// ```
///
/// `Destroyed` follows on each of them, and is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
#[non_exhaustive]
pub enum MachineState {
    /// There is no process.
    Off,
    /// The process is starting; QMP has not answered yet.
    Starting,
    /// QEMU executes the guest.
    Running,
    /// The guest's processors are stopped; memory and devices are kept.
    Paused {
        /// Why, if QEMU has paused by itself: the host's disk is full. Resuming retries the failed
        /// writes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The process is being stopped.
    Stopping,
    /// The process ended, or the guest panicked, without a request. `start` works again.
    Crashed {
        /// The cause, with QEMU's messages.
        why: String,
    },
    /// It was destroyed, or its device is closed. It exists again when its device is opened again,
    /// as by a restart of the exporter.
    Destroyed,
}

impl MachineState {
    /// Paused on request.
    pub const PAUSED: Self = Self::Paused { why: None };

    /// The state without its details.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Off => Phase::Off,
            Self::Starting => Phase::Starting,
            Self::Running => Phase::Running,
            Self::Paused { .. } => Phase::Paused,
            Self::Stopping => Phase::Stopping,
            Self::Crashed { .. } => Phase::Crashed,
            Self::Destroyed => Phase::Destroyed,
        }
    }

    /// Whether a guest is loaded: running or paused.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Running | Self::Paused { .. })
    }

    /// Whether the process has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Off | Self::Crashed { .. } | Self::Destroyed)
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed { why } => write!(f, "crashed ({why})"),
            Self::Paused { why: Some(why) } => write!(f, "paused ({why})"),
            Self::Destroyed => {
                f.write_str("destroyed until its device is opened again (restart the exporter)")
            }
            other => fmt::Display::fmt(&other.phase(), f),
        }
    }
}

/// A [`MachineState`] without its details, to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the same names as MachineState's")]
pub enum Phase {
    Off,
    Starting,
    Running,
    Paused,
    Stopping,
    Crashed,
    Destroyed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Off,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Crashed,
        Self::Destroyed,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Destroyed => "destroyed",
        })
    }
}

/// How `stop` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StopOutcome {
    /// The machine was off already.
    AlreadyOff,
    /// The guest shut itself down.
    Graceful,
    /// QMP's `quit` cut the power: the guest did not shut down in time, was not asked, or another
    /// call cut the power.
    Cut,
    /// QEMU did not quit in time either: its process was killed.
    Killed,
    /// QEMU crashed, or another program killed it, before the guest had shut down; the state says
    /// why.
    Crashed,
}

impl fmt::Display for StopOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyOff => "was off already",
            Self::Graceful => "the guest shut down",
            Self::Cut => "the guest had not shut down: power cut",
            Self::Killed => "QEMU did not quit in time: killed",
            Self::Crashed => "QEMU crashed before the guest had shut down",
        })
    }
}

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub struct MachineEvent {
    /// `STATE` for a change of state, `LOST` if the reader was too slow (`data.count` events), else
    /// the name of QEMU's event, such as `SHUTDOWN`, `RESET` or `GUEST_PANICKED` (QEMU QMP
    /// reference manual).
    pub name: String,
    /// The state after it.
    pub state: MachineState,
    /// The event's data; null if it has none.
    #[serde(default)]
    pub data: Value,
}
