//! Values made from files, and made again when these change: certificates, keys, the passphrase.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often the files are checked, and only on demand.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for a file system: afterwards the earlier value stays.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A value made from files. Clones share it.
pub(crate) struct FilesWatch<T>(Arc<Shared<T>>);

struct Shared<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: T,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
    is_looking: bool,
}

/// Identifies a version of a file: it differs after a change or a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Clone for FilesWatch<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for FilesWatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilesWatch({} of {:?})", self.0.what, self.0.files)
    }
}

/// `None` for a file that is not regular: it may be readable once, as a pipe from a password
/// manager, and opening it may block.
fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok().filter(Metadata::is_file)?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    files.iter().map(stamp).collect()
}

fn not_a_file(path: &Path) -> Error {
    Error::failed_precondition(format!("{} is missing or not a regular file", path.display()))
}

impl<T: Clone + Send + 'static> FilesWatch<T> {
    /// Makes the value from these files. Blocks meanwhile. A file that is not regular is read only
    /// now.
    ///
    /// # Errors
    /// The error of `make`.
    pub(crate) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        // Before they are read: a change in between shows at the next check.
        let stamps = stamps(&files);
        let value = make()?;
        let state = Mutex::new(State { value, stamps, looked: Instant::now(), is_looking: false });
        Ok(Self(Arc::new(Shared { what, files, make: Box::new(make), state })))
    }

    /// The value of the files as they are now or were within the last second.
    pub(crate) async fn current(&self) -> T {
        {
            let mut state = self.0.state();
            if state.is_looking || state.looked.elapsed() < INTERVAL {
                return state.value.clone();
            }
            (state.is_looking, state.looked) = (true, Instant::now());
        }
        let (shared, (done, looked)) = (self.0.clone(), oneshot::channel());
        // Not a thread of the runtime: the runtime's end waits for its threads.
        let looking = thread::Builder::new().name("files".to_owned()).spawn(move || {
            shared.look();
            // The receiver may have stopped waiting.
            done.send(()).ok();
        });
        match looking {
            // After the limit the check continues, and no other one begins.
            Ok(_) => drop(tokio::time::timeout(LOOK_LIMIT, looked).await),
            Err(error) => {
                self.0.state().is_looking = false;
                tracing::debug!(%error, "whether {} changed is not checked", self.0.what);
            }
        }
        self.0.state().value.clone()
    }
}

impl<T: Clone> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the value again if a file has changed. Unusable files change nothing.
    fn look(&self) {
        let found = stamps(&self.files);
        // No lock is held while files are read.
        let is_changed = found != self.state().stamps;
        let made = is_changed.then(|| match found.iter().position(Option::is_none) {
            None => (self.make)(),
            Some(place) => Err(not_a_file(&self.files[place])),
        });
        let mut state = self.state();
        state.is_looking = false;
        state.stamps = found;
        match made {
            None => {}
            Some(Ok(value)) => {
                state.value = value;
                drop(state);
                tracing::info!("{} changed: what the files say now counts from now on", self.what);
            }
            Some(Err(error)) => {
                drop(state);
                let error = error.report();
                tracing::warn!(
                    error,
                    "{} changed and cannot be used: what was before goes on",
                    self.what
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_testkit::{eventually, eventually_some};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[tokio::test]
    async fn a_changed_file_counts_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let read = {
            let file = file.clone();
            move || {
                let text = std::fs::read_to_string(&file)?;
                text.parse::<u32>().map_err(|_| Error::invalid_argument("it is no number"))
            }
        };
        let watch = FilesWatch::new("the number", vec![file.clone()], read).unwrap();
        let later = || watch.0.state().looked = Instant::now() - INTERVAL;
        // A look that takes long leaves the earlier value for now.
        let becomes = |number: u32| {
            let watch = &watch;
            eventually_some("the new value", async move || {
                (watch.current().await == number).then_some(())
            })
        };
        assert_eq!(watch.current().await, 1);
        std::fs::write(&file, "2").unwrap();
        watch.0.state().looked = Instant::now() + LOOK_LIMIT;
        assert_eq!(watch.current().await, 1, "it was looked at a moment ago");
        later();
        becomes(2).await;
        for (broken, then) in [("x", "3"), ("", "4")] {
            std::fs::write(&file, broken).unwrap();
            later();
            let before = watch.current().await;
            assert_eq!(before, then.parse::<u32>().unwrap() - 1);
            // As most programs write: another file replaces it.
            std::fs::write(folder.path().join("new"), then).unwrap();
            std::fs::rename(folder.path().join("new"), &file).unwrap();
            later();
            becomes(before + 1).await;
        }
        std::fs::remove_file(&file).unwrap();
        later();
        assert_eq!(watch.current().await, 4);
        // Opening it would wait for a writer.
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR, 0).unwrap();
        later();
        assert_eq!(watch.current().await, 4);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "5").unwrap();
        later();
        becomes(5).await;
    }

    #[test]
    fn the_end_does_not_wait_for_a_file_system_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let is_first = std::sync::atomic::AtomicBool::new(true);
        let read = move || {
            while !is_first.load(std::sync::atomic::Ordering::SeqCst) {
                thread::park();
            }
            is_first.store(false, std::sync::atomic::Ordering::SeqCst);
            Ok(1)
        };
        let watch = FilesWatch::new("the number", vec![file.clone()], read).unwrap();
        std::fs::write(&file, "22").unwrap();
        watch.0.state().looked -= INTERVAL;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(watch.current()), 1);
        let start = std::time::Instant::now();
        runtime.shutdown_timeout(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let (going, hanging) = std::sync::mpsc::channel::<()>();
        let reads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (hanging, counted) = (Mutex::new(hanging), reads.clone());
        let read = move || {
            if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                hanging.lock().unwrap().recv().ok();
            }
            Ok(1)
        };
        let watch = FilesWatch::new("the number", vec![file.clone()], read).unwrap();
        std::fs::write(&file, "22").unwrap();
        watch.0.state().looked -= INTERVAL;
        let looking = tokio::spawn({
            let watch = watch.clone();
            async move { watch.current().await }
        });
        while !watch.0.state().is_looking {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            watch.0.state().looked -= INTERVAL;
            let at_once = tokio::time::timeout(LOOK_LIMIT / 2, watch.current());
            assert_eq!(at_once.await, Ok(1));
        }
        drop(going);
        assert_eq!(looking.await.unwrap(), 1);
        let is_read = || reads.load(std::sync::atomic::Ordering::SeqCst) > 1;
        eventually("the thread reads", is_read).await;
        let reads = reads.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(reads, 2, "one thread waits, however many ask");
    }
}
