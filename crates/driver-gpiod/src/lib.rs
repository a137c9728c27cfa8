//! Lines of GPIO chips, by the character device of Linux.
//!
//! - `gpio-output` is a line that a client drives, `gpio-power` one that switches the power of a
//!   device ([`GpioOutput`]). After each change the line is read back.
//! - `gpio-input` ([`GpioInput`]) is a line that a client reads, and whose edges it waits for.
//!
//! A line is requested from the chip when its driver is opened and released when it is closed;
//! meanwhile no other program gets it. Needs Linux 5.10 or newer.

mod chip;
mod config;
mod edges;
mod input;
mod interface;
mod line;
mod output;

pub use config::{
    GpioBias, GpioDrive, GpioInputConfig, GpioLevel, GpioLine, GpioOutputConfig, GpioPowerConfig,
};
pub use input::GpioInput;
pub use interface::{GpioEdge, GpioEdges, GpioPin, PinState};
pub use output::GpioOutput;
