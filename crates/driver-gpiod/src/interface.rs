//! The interfaces of GPIO lines.

use std::fmt;

use jumpstarter_driver_core::prelude::*;

/// The logical state of a line: with `active_low`, a line of low voltage is active.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(into = "u8", try_from = "u8")]
#[schemars(with = "u8")]
pub enum PinState {
    /// 0 on the wire.
    Inactive,
    /// 1 on the wire.
    Active,
}

impl PinState {
    /// The state of a line that is active, or not.
    pub(crate) fn new(is_active: bool) -> Self {
        match is_active {
            true => Self::Active,
            false => Self::Inactive,
        }
    }
}

impl fmt::Display for PinState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "inactive",
            Self::Active => "active",
        })
    }
}

impl From<PinState> for u8 {
    fn from(state: PinState) -> Self {
        state as u8
    }
}

impl TryFrom<u8> for PinState {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Inactive),
            1 => Ok(Self::Active),
            other => Err(format!("a line is 0 or 1, not {other}")),
        }
    }
}

/// A change of a line.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GpioEdge {
    /// From inactive to active.
    Rising,
    /// From active to inactive.
    Falling,
}

impl fmt::Display for GpioEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rising => "rising",
            Self::Falling => "falling",
        })
    }
}

/// Reads a line.
#[interface(
    name = "gpio-pin",
    client = "jumpstarter_driver_gpiod.client.DigitalOutputClient",
    also = ["jumpstarter_driver_gpiod.client.DigitalInputClient"]
)]
pub trait GpioPin {
    /// Returns the line's state: 1 is active, 0 is inactive.
    async fn read_pin(&self) -> Result<PinState>;
}

/// Waits for changes of a line.
///
/// Without a timeout a wait lasts until its caller gives up or the driver is closed
/// (`Unavailable`). Every caller that waits gets the same edge.
#[interface(name = "gpio-edges", client = "jumpstarter_driver_gpiod.client.DigitalInputClient")]
pub trait GpioEdges {
    /// Waits until the line is active; returns at once if it is. A pulse during the wait is enough.
    /// `DeadlineExceeded` after `timeout`.
    async fn wait_for_active(&self, timeout: Option<Span>) -> Result<()>;

    /// Waits for an edge, `rising` or `falling`. An edge since the last wait counts, so none is
    /// missed between the call that causes it and this one. `DeadlineExceeded` after `timeout`.
    async fn wait_for_edge(&self, edge_type: GpioEdge, timeout: Option<Span>) -> Result<()>;

    /// Waits until the line is inactive; returns at once if it is. A pulse during the wait is
    /// enough. `DeadlineExceeded` after `timeout`.
    async fn wait_for_inactive(&self, timeout: Option<Span>) -> Result<()>;
}
