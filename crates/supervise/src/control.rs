//! The pipe by which a guardian is told what to do; closing it means "kill everything".

use std::os::fd::OwnedFd;

/// Send a signal to the program.
pub(crate) const SIGNAL_PROGRAM: u8 = 1;
/// Send a signal to the program's process group.
pub(crate) const SIGNAL_GROUP: u8 = 2;
/// Kill the program and all of its descendants.
pub(crate) const KILL_ALL: u8 = 3;

/// An order is two bytes: what to do, and a signal number. Pipes keep so few together.
pub(crate) const ORDER_BYTES: usize = 2;

/// The writing end. Dropping it kills the program and all of its descendants; so does this process's death.
#[derive(Debug)]
pub(crate) struct Control {
    pipe: OwnedFd,
}

impl Control {
    /// Wraps the writing end of a pipe whose other end the guardian has.
    pub(crate) fn new(pipe: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe })
    }

    /// Gives an order; false if the guardian has ended, and so everything that it guarded. Never blocks.
    pub(crate) fn order(&self, what: u8, signal: i32) -> bool {
        let signal = u8::try_from(signal).unwrap_or(0);
        rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, &[what, signal])).is_ok()
    }
}
