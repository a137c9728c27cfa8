//! The limit for the size of files (`ulimit -f`), which by default ends the process that meets it.
#![expect(unsafe_code, reason = "how a signal is handled has no safe interface")]

use std::{mem, ptr};

/// Makes writes beyond the limit for the size of files fail with an error (`EFBIG`) instead of
/// ending this process.
///
/// Programs that this process starts have the system's default again; a signal that was ignored
/// from the beginning stays ignored, for them too.
pub fn survive_file_size_limit() {
    // SAFETY: the structures are locals, and zeroes are a valid value of theirs; the handler does
    // nothing, which is safe in a signal handler.
    unsafe {
        let mut before: libc::sigaction = mem::zeroed();
        if libc::sigaction(libc::SIGXFSZ, ptr::null(), &mut before) != 0
            || before.sa_sigaction != libc::SIG_DFL
        {
            return;
        }
        // Not ignored, which `exec` would pass on; a handler is reset there.
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGXFSZ, &action, ptr::null_mut());
    }
}

extern "C" fn nothing(_: libc::c_int) {}
