//! One reader of a device, and many clients.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use jumpstarter_console::{ConsoleLog, ConsoleNotes, ReadFrom, Reconnect, SCROLLBACK};
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use tokio::time::{Instant, sleep};

use crate::address::SerialAddress;
use crate::source::Source;

/// The first pause before a device that went away is opened again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What doubling stops at.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A device that stayed this long has come back: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// Shares the device of a source among clients.
pub(crate) struct Sharing {
    source: Arc<Source>,
    /// Held while the device is being opened.
    opening: tokio::sync::Mutex<()>,
    current: Mutex<Current>,
    /// What the device said before is not for clients.
    begun: AtomicU64,
}

/// The open device.
#[derive(Default)]
struct Current {
    /// Alive as long as a client or `held` is.
    open: Weak<Open>,
    /// Set where the device stays open without a client.
    held: Option<Arc<Open>>,
}

struct Open {
    /// `None` once it was closed.
    log: Mutex<Option<ConsoleLog>>,
    clients: AtomicUsize,
}

/// Keeps the device open, and is counted.
struct Client(Arc<Open>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Open {
    fn new(log: ConsoleLog) -> Arc<Self> {
        Arc::new(Self { log: Mutex::new(Some(log)), clients: AtomicUsize::new(0) })
    }

    fn log(&self) -> MutexGuard<'_, Option<ConsoleLog>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel for another client, unless the device was closed or has ended.
    fn attach(self: &Arc<Self>, from: ReadFrom) -> Option<Channel> {
        let (reader, writer) = {
            let log = self.log();
            log.as_ref().filter(|log| !log.ended())?.attach_from(from).split()
        };
        self.clients.fetch_add(1, Ordering::SeqCst);
        let client = Arc::new(Client(Arc::clone(self)));
        let same = Arc::clone(&client);
        let reader = reader.inspect(move |_| _ = &client);
        let writer = writer.sink_map_err(move |error| {
            _ = &same;
            error
        });
        Some(Channel::from_parts(Framing::Bytes, reader, writer))
    }
}

impl Sharing {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            opening: tokio::sync::Mutex::default(),
            current: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients are connected.
    pub(crate) fn clients(&self) -> usize {
        self.current().open.upgrade().map_or(0, |open| open.clients.load(Ordering::SeqCst))
    }

    /// How many bytes the device said since it was opened.
    pub(crate) fn total_bytes(&self) -> u64 {
        let open = self.current().open.upgrade();
        open.map_or(0, |open| open.log().as_ref().map_or(0, ConsoleLog::total_bytes))
    }

    /// A channel for another client; the first one opens the device.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let _turn = self.opening.lock().await;
        let open = self.current().open.upgrade();
        let said = self.total_bytes().saturating_sub(self.begun.load(Ordering::SeqCst));
        let scrollback = self.source.config.scrollback.as_bytes().min(said);
        if let Some(channel) = open.and_then(|open| open.attach(ReadFrom::Last(scrollback))) {
            return Ok(channel);
        }
        let channel = self.source.open().await?;
        let held = self.current().held.is_some();
        let open = self.begin(Some(channel), held).await?;
        // It may have said something already.
        let channel = open.attach(ReadFrom::Start);
        channel.ok_or_else(|| Error::unavailable(format!("{} ended", self.source.config.url)))
    }

    /// Opens the device without a client. Where it need not be present, it is waited for.
    pub(crate) async fn hold(&self) -> Result<()> {
        let _turn = self.opening.lock().await;
        let channel = match self.source.open().await {
            Ok(channel) => Some(channel),
            Err(_) if !self.source.config.check_present && self.follows() => None,
            Err(error) => return Err(error),
        };
        self.begin(channel, true).await.map(drop)
    }

    /// Makes the device that `channel` leads to the current one.
    async fn begin(&self, channel: Option<Channel>, held: bool) -> Result<Arc<Open>> {
        let log = self.open_log(channel);
        self.begun.store(0, Ordering::SeqCst);
        let config = &self.source.config;
        if let Some(path) = config.log_file.as_ref().filter(|_| held) {
            log.write_to_file(path.to_path_buf(), config.log_max_size, config.log_files).await?;
        }
        let open = Open::new(log);
        let held = held.then(|| Arc::clone(&open));
        *self.current() = Current { open: Arc::downgrade(&open), held };
        Ok(open)
    }

    /// Whether the device is open without a client, too.
    pub(crate) fn is_held(&self) -> bool {
        self.current().held.is_some()
    }

    /// Has clients get only what the device says from now on.
    pub(crate) fn forget(&self) {
        self.begun.store(self.total_bytes(), Ordering::SeqCst);
    }

    /// Ends the channel of every client. The device is closed unless it is held.
    pub(crate) fn hang_up(&self) {
        let held = self.current().held.clone();
        match held {
            Some(open) => _ = open.log().as_ref().map(ConsoleLog::hang_up),
            None => self.close(),
        }
    }

    /// Ends the channel of every client, and closes the device. It can be opened again.
    pub(crate) fn close(&self) {
        let current = std::mem::take(&mut *self.current());
        if let Some(open) = current.open.upgrade() {
            drop(open.log().take());
        }
        self.source.connections.end_all();
    }

    /// Whether a device that went away is opened again.
    fn follows(&self) -> bool {
        let config = &self.source.config;
        let passing = matches!(&config.url, SerialAddress::Device(path)
            if path.written().starts_with("/dev/pts/"));
        config.reconnect && !passing
    }

    fn open_log(&self, channel: Option<Channel>) -> ConsoleLog {
        let scrollback = self.source.config.scrollback.max(SCROLLBACK);
        let gone = channel.is_none();
        let channel = channel.unwrap_or_else(|| Channel::pair(Framing::Bytes).0);
        match self.follows() {
            true => {
                ConsoleLog::reconnecting(channel, scrollback, follow(self.source.clone(), gone))
            }
            false => ConsoleLog::with_scrollback(channel, scrollback),
        }
    }
}

/// Waits for the device and opens it again, with notes that mark the gap.
fn follow(source: Arc<Source>, gone: bool) -> Reconnect {
    let mut back = (!gone).then(Instant::now);
    let last = Arc::new(Mutex::new((FIRST_PAUSE, Instant::now())));
    Box::new(move |notes: ConsoleNotes| {
        let (source, last) = (Arc::clone(&source), Arc::clone(&last));
        let known = back.replace(Instant::now()).is_some();
        async move {
            let url = &source.config.url;
            let since = Instant::now();
            let (mut pause, opened) = *last.lock().unwrap_or_else(PoisonError::into_inner);
            if opened.elapsed() > STEADY {
                pause = FIRST_PAUSE;
            }
            notes.note(&match known {
                true => format!("{url} went away; waiting for it"),
                false => format!("{url} is not there yet; waiting for it"),
            });
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                if let Ok(channel) = source.open().await {
                    let gap = since.elapsed().as_secs_f64();
                    notes.note(&format!("{url} is back after {gap:.1} s"));
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = (pause, Instant::now());
                    return Ok(Some(channel));
                }
            }
        }
        .boxed()
    })
}
