//! Signals that this process ignores.
#![expect(unsafe_code, reason = "how a signal is handled has no safe interface")]

use std::{mem, ptr};

use crate::Signal;

/// Whether this process ignores a signal: since its start, as under `nohup` or in the background of a shell, unless
/// it changed that itself. A program that handles such a signal all the same breaks what its caller meant.
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: nothing is set, and the answer goes to a local, of which zeroes are a valid value.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal.as_raw(), ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
