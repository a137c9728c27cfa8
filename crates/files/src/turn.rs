//! Cancels a write: its caller and its threads agree on the order, without waiting for each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

const WANTED: u8 = 0;
const CANCELLED: u8 = 1;
const LAST_STEP: u8 = 2;

/// The files that a last step is replacing now.
static REPLACING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static REPLACED: Condvar = Condvar::new();

/// Whether the caller of a write still wants it.
///
/// The caller holds the [`guard`](Self::guard); dropping it cancels the write, unless its last step
/// has begun. Dropping never blocks: the last step is a file operation, which may hang.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<AtomicU8>);

impl Turn {
    /// Whether it was not cancelled.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::SeqCst) != CANCELLED
    }

    /// Runs the step that replaces `file`, which can no longer be cancelled once it runs. Returns
    /// `None`, without running it, if the caller was cancelled before.
    ///
    /// Last steps for the same file run one after the other, in the order in which they began: a
    /// hanging step of a cancelled caller cannot replace the result of the next write. Waits for
    /// such a step; call it on a thread that may block.
    pub fn last_step<T>(&self, file: &Path, step: impl FnOnce() -> T) -> Option<T> {
        let _alone = Alone::begin(file);
        // In this order: a write that is cancelled later is ahead of the next one.
        let begun = self.0.compare_exchange(WANTED, LAST_STEP, Ordering::SeqCst, Ordering::SeqCst);
        begun.is_ok().then(step)
    }

    /// Cancels when it is dropped.
    pub fn guard(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Held by the caller of a write.
#[derive(Debug)]
pub struct CancelOnDrop(Turn);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // A running last step counts as done.
        self.0.0.compare_exchange(WANTED, CANCELLED, Ordering::SeqCst, Ordering::SeqCst).ok();
    }
}

/// The only one that replaces a file.
struct Alone(PathBuf);

impl Alone {
    fn begin(file: &Path) -> Self {
        let mut replacing = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
        while !replacing.insert(file.to_owned()) {
            replacing = REPLACED.wait(replacing).unwrap_or_else(PoisonError::into_inner);
        }
        Self(file.to_owned())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        REPLACING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        REPLACED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_caller_that_went_away_has_no_last_step() {
        let turn = Turn::default();
        let guard = turn.guard();
        assert!(turn.is_wanted());
        drop(guard);
        assert!(!turn.is_wanted());
        assert_eq!(turn.last_step(Path::new("a"), || ()), None);
    }

    #[test]
    fn going_away_waits_for_no_step_and_the_next_write_does() {
        let (turn, path) = (Turn::default(), Path::new("b"));
        let guard = turn.guard();
        let (order, happened) = channel();
        let (resume, hang) = channel::<()>();
        let first = std::thread::spawn({
            let order = order.clone();
            move || {
                turn.last_step(path, || {
                    order.send("first begins").unwrap();
                    hang.recv_timeout(LIMIT).unwrap();
                    order.send("first ends").unwrap();
                })
            }
        });
        assert_eq!(happened.recv_timeout(LIMIT).unwrap(), "first begins");
        let (gone, is_gone) = channel();
        std::thread::spawn(move || {
            drop(guard);
            gone.send(())
        });
        is_gone.recv_timeout(LIMIT).expect("dropping waits for a file call");
        // Another file's step does not wait, that of the same file does.
        Turn::default().last_step(Path::new("c"), || order.send("another")).unwrap().unwrap();
        let second =
            std::thread::spawn(move || Turn::default().last_step(path, || order.send("second")));
        assert_eq!(happened.recv_timeout(LIMIT).unwrap(), "another");
        let early = happened.recv_timeout(Duration::from_millis(300));
        assert!(early.is_err(), "the next write went past a step that hangs");
        resume.send(()).unwrap();
        assert_eq!(happened.recv_timeout(LIMIT).unwrap(), "first ends");
        assert_eq!(happened.recv_timeout(LIMIT).unwrap(), "second");
        assert!(first.join().unwrap().is_some() && second.join().unwrap().is_some());
    }
}
