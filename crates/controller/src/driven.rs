//! The connection of a tunnel, which the task that uses the tunnel drives: data that arrives wakes
//! up one task instead of two, one after the other.
//!
//! While nothing waits for the tunnel's data, a separate task drives the connection: pings are
//! answered, and sent data goes on its way.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;

/// How often the separate task looks after a connection: a read that was woken up may have been
/// given up by then. It is less than a router waits for the answer to a ping.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Drives a connection, and ends with it.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connection, and the tasks that are woken up for it.
pub(crate) struct Driven {
    /// `None` once it has ended.
    work: Mutex<Option<Work>>,
    /// The work was woken up, and has not run since.
    is_due: AtomicBool,
    /// The tunnel is being polled, and drives the connection before it returns.
    is_held: AtomicBool,
    /// The tunnel is about to look for data.
    is_looking: AtomicBool,
    /// The last read of the tunnel waits.
    is_reading: AtomicBool,
    reader: AtomicWaker,
    caretaker: AtomicWaker,
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driven")
    }
}

/// The work is woken up: by the socket, a timer, or what the tunnel sends.
impl Wake for Driven {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, SeqCst);
        if !self.is_held.load(SeqCst) {
            self.call_driver();
        }
    }
}

/// Wakes up who reads the tunnel.
struct Reader(Arc<Driven>);

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.0.is_looking.load(SeqCst) {
            self.0.reader.wake();
        }
    }
}

impl Driven {
    /// Wakes up who drives the connection next.
    fn call_driver(&self) {
        let reader = if self.is_reading.load(SeqCst) { self.reader.take() } else { None };
        match reader {
            Some(reader) => reader.wake(),
            None => self.caretaker.wake(),
        }
    }

    fn drive(&self, waker: &Waker) {
        if !self.is_due.load(SeqCst) {
            return;
        }
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cx = Context::from_waker(waker);
        // The second turn does what the first one has caused.
        for _ in 0..2 {
            if !self.is_due.swap(false, SeqCst) {
                return;
            }
            let Some(running) = work.as_mut() else { return };
            if running.as_mut().poll(&mut cx).is_ready() {
                *work = None;
                self.caretaker.wake();
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The tunnel's side of its connection.
#[derive(Debug)]
pub(crate) struct Driver {
    driven: Arc<Driven>,
    work_waker: Waker,
    reader_waker: Waker,
}

impl Driver {
    /// Takes the connection over, on a runtime.
    pub(crate) fn spawn(work: Work) -> Self {
        let driven = Arc::new(Driven {
            work: Mutex::new(Some(work)),
            is_due: AtomicBool::new(true),
            is_held: AtomicBool::new(false),
            is_looking: AtomicBool::new(false),
            is_reading: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            caretaker: AtomicWaker::new(),
        });
        let (work_waker, reader_waker) =
            (driven.clone().into(), Arc::new(Reader(driven.clone())).into());
        let (kept, waker): (_, Waker) = (driven.clone(), driven.clone().into());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        tokio::spawn(std::future::poll_fn(move |cx| {
            kept.caretaker.register(cx.waker());
            kept.drive(&waker);
            while looks.poll_tick(cx).is_ready() {}
            if kept.has_ended() {
                return Poll::Ready(());
            }
            if kept.is_due.load(SeqCst) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }));
        Self { driven, work_waker, reader_waker }
    }

    /// Looks for data: `look` gets the context to wait with.
    pub(crate) fn read<T>(
        &self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.driven.reader.register(cx.waker());
        self.driven.is_held.store(true, SeqCst);
        self.driven.is_looking.store(true, SeqCst);
        self.driven.drive(&self.work_waker);
        self.driven.is_looking.store(false, SeqCst);
        let found = look(&mut Context::from_waker(&self.reader_waker));
        self.driven.is_reading.store(found.is_pending(), SeqCst);
        self.release();
        found
    }

    /// Sends: what `send` gives to the connection is on its way afterwards.
    pub(crate) fn write<T>(&self, send: impl FnOnce() -> T) -> T {
        self.driven.is_held.store(true, SeqCst);
        let sent = send();
        self.release();
        sent
    }

    fn release(&self) {
        self.driven.drive(&self.work_waker);
        self.driven.is_held.store(false, SeqCst);
        if self.driven.is_due.load(SeqCst) {
            self.driven.call_driver();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The rest is sent, and the connection ends.
        self.driven.is_reading.store(false, SeqCst);
        self.driven.caretaker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts wakes.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Work that never ends: how often it has run, and its waker.
    #[derive(Clone, Default)]
    struct Endless(Arc<(AtomicUsize, AtomicWaker)>);

    impl Endless {
        fn spawn(&self) -> Driver {
            let this = self.clone();
            Driver::spawn(Box::pin(poll_fn(move |cx| {
                this.0.0.fetch_add(1, SeqCst);
                this.0.1.register(cx.waker());
                Poll::Pending
            })))
        }

        fn wake(&self) {
            self.0.1.wake();
        }

        fn runs(&self) -> usize {
            self.0.0.load(SeqCst)
        }
    }

    #[tokio::test]
    async fn who_reads_drives() {
        let (work, wakes) = (Endless::default(), Arc::new(Wakes::default()));
        let driver = work.spawn();
        tokio::task::yield_now().await;
        let waker = wakes.clone().into();
        let mut cx = Context::from_waker(&waker);
        let pending = |_: &mut Context<'_>| Poll::<()>::Pending;
        assert!(driver.read(&mut cx, pending).is_pending());
        assert_eq!(work.runs(), 1);
        work.wake();
        tokio::task::yield_now().await;
        assert_eq!((work.runs(), wakes.0.load(SeqCst)), (1, 1), "only the reader is woken up");
        // What is written is sent before the write returns, and wakes up nobody.
        driver.write(|| work.wake());
        assert_eq!((work.runs(), wakes.0.load(SeqCst)), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_given_up_does_not_hold_the_connection() {
        let work = Endless::default();
        let driver = work.spawn();
        tokio::task::yield_now().await;
        assert!(
            driver
                .read(&mut Context::from_waker(Waker::noop()), |_| Poll::<()>::Pending)
                .is_pending()
        );
        work.wake();
        tokio::time::sleep(LOOK_EVERY + Duration::from_secs(1)).await;
        assert_eq!(work.runs(), 2, "its waker was called, and it did not read");
    }

    #[tokio::test]
    async fn a_task_drives_while_nobody_reads() {
        let work = Endless::default();
        let driver = work.spawn();
        tokio::task::yield_now().await;
        assert_eq!(work.runs(), 1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(driver.read(&mut cx, |_| Poll::Ready(())).is_ready());
        work.wake();
        tokio::task::yield_now().await;
        assert_eq!(work.runs(), 2, "a ping is answered while nobody reads");
        assert!(driver.read(&mut cx, |_| Poll::<()>::Pending).is_pending());
        work.wake();
        drop(driver);
        tokio::task::yield_now().await;
        assert_eq!(work.runs(), 3, "the end is sent after a read that waits");
    }
}
