//! The pipe that carries orders to a guardian; closing it means "kill everything".

use std::os::fd::OwnedFd;

/// Send a signal to the program.
pub(crate) const SIGNAL_PROGRAM: u8 = 1;
/// Send a signal to the program's process group.
pub(crate) const SIGNAL_GROUP: u8 = 2;
/// Kill the program and all of its descendants.
pub(crate) const KILL_ALL: u8 = 3;

/// An order is two bytes: its kind, and a signal number. A pipe never splits so few.
pub(crate) const ORDER_BYTES: usize = 2;

/// The writing end. Dropping it kills the program and all of its descendants; so does this
/// process's death.
///
/// A suspended guardian (SIGSTOP) carries out nothing: every order also continues it.
#[derive(Debug)]
pub(crate) struct Control {
    pipe: OwnedFd,
    guardian: Guardian,
}

impl Control {
    /// Wraps the writing end of a pipe whose other end the guardian has. The guardian, this
    /// process's direct child, must not have been reaped.
    pub(crate) fn new(pipe: OwnedFd, guardian: Option<u32>) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, guardian: Guardian::new(guardian) })
    }

    /// Gives an order; returns false if the guardian, and so everything that it guarded, has ended.
    /// Never blocks.
    pub(crate) fn order(&self, what: u8, signal: i32) -> bool {
        let signal = u8::try_from(signal).unwrap_or(0);
        let given =
            rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, &[what, signal])).is_ok();
        self.guardian.go_on();
        given
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.guardian.go_on();
    }
}

/// A handle to the guardian that cannot refer to a later process of the same number.
#[derive(Debug)]
struct Guardian {
    #[cfg(target_os = "linux")]
    handle: Option<OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Guardian {
    fn new(pid: Option<u32>) -> Self {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        // Before Linux 5.3 there are no such handles: a suspended guardian stays suspended.
        Self { handle: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) }
    }

    fn go_on(&self) {
        if let Some(handle) = &self.handle {
            // It fails for a guardian that has ended.
            rustix::process::pidfd_send_signal(handle, rustix::process::Signal::CONT).ok();
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Guardian {
    fn new(_pid: Option<u32>) -> Self {
        Self {}
    }

    fn go_on(&self) {}
}
