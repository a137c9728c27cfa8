//! Runs work before this process exits.
#![expect(unsafe_code, reason = "the C library's list of exit functions has no safe interface")]

use std::sync::Mutex;

static WORK: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Runs `work` when this process exits by returning from `main` or by [`std::process::exit`],
/// before work that was registered earlier. A process that a signal kills runs none of it.
///
/// The work runs on the exiting thread, while other threads still run. It must limit its own time
/// and must not panic.
pub fn at_exit(work: fn()) {
    let Ok(mut list) = WORK.lock() else { return };
    if list.is_empty() {
        // SAFETY: the function is `extern "C"`, takes nothing, and does not unwind: a poisoned lock
        // is skipped.
        let refused = unsafe { libc::atexit(run) } != 0;
        if refused {
            tracing::debug!("the system takes no more exit functions");
        }
    }
    list.push(work);
}

extern "C" fn run() {
    let work = WORK.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default();
    for work in work.into_iter().rev() {
        work();
    }
}
