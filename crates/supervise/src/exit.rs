//! Runs work before this process exits.
#![expect(unsafe_code, reason = "the C library's list of exit functions has no safe interface")]

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

type Work = Box<dyn FnOnce() + Send>;

static WORK: Mutex<Vec<Work>> = Mutex::new(Vec::new());

/// Runs `work` when this process exits by returning from `main` or by [`std::process::exit`],
/// before work that was registered earlier. A process that a signal kills runs none of it.
///
/// The work runs on the exiting thread, while other threads still run. It must limit its own time
/// and must not panic.
pub fn at_exit(work: impl FnOnce() + Send + 'static) {
    let Ok(mut list) = WORK.lock() else { return };
    if list.is_empty() {
        // SAFETY: the function is `extern "C"`, takes nothing, and does not unwind: a poisoned lock
        // is skipped.
        let refused = unsafe { libc::atexit(run) } != 0;
        if refused {
            tracing::debug!("the system takes no more exit functions");
        }
    }
    list.push(Box::new(work));
}

extern "C" fn run() {
    let work = WORK.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default();
    for work in work.into_iter().rev() {
        work();
    }
}

/// Work of values that are dropped: it runs on separate threads, so that `drop` does not wait, and
/// the process's exit waits for it. One `static` for each kind of work.
#[derive(Debug)]
pub struct Leftovers {
    thread: &'static str,
    exit_limit: Duration,
    running: Mutex<usize>,
    ended: Condvar,
    at_exit: Once,
}

impl Leftovers {
    /// Work on threads of this name. The process's exit waits for it, for `exit_limit` at most.
    pub const fn new(thread: &'static str, exit_limit: Duration) -> Self {
        let (running, ended, at_exit) = (Mutex::new(0), Condvar::new(), Once::new());
        Self { thread, exit_limit, running, ended, at_exit }
    }

    /// Runs `work` on a new thread.
    ///
    /// # Errors
    /// If no thread can be started; then the work is dropped.
    pub fn run(&'static self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.at_exit.call_once(|| {
            at_exit(|| {
                self.finish(self.exit_limit);
            });
        });
        *self.running() += 1;
        let counted = Counted(self);
        std::thread::Builder::new()
            .name(self.thread.to_owned())
            .spawn(move || {
                let _counted = counted;
                work();
            })
            .map(drop)
    }

    /// Waits until all work has ended, for `limit` at most; says whether it has. For a thread that
    /// may block.
    pub fn finish(&self, limit: Duration) -> bool {
        // None for more than a clock can show.
        let deadline = Instant::now().checked_add(limit);
        let mut count = self.running();
        while *count > 0 {
            let left =
                deadline.map_or(Some(limit), |end| end.checked_duration_since(Instant::now()));
            let Some(left) = left else { return false };
            count = self.ended.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of work that counts as running until this is dropped.
struct Counted(&'static Leftovers);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.ended.notify_all();
    }
}
