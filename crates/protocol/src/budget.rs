//! The memory for messages that have arrived: for those that are incomplete, and for those that are
//! in use.
//!
//! Each stream has its own share. A message that fits into it waits until earlier ones of the same
//! stream are released, so unread streams do not block others. A larger one is taken from the
//! connection's memory for such, and that of all connections together. It waits *before* it is
//! read, and holds nothing meanwhile, so messages do not wait for each other.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jumpstarter_driver_core::Error;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// The shares of all streams of a connection together.
const SHARES: usize = 64 << 20;
/// The share of one stream.
const MIN_SHARE: usize = 64 << 10;
const MAX_SHARE: usize = 2 << 20;
/// How long a large message waits for memory that others of its connection hold.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// The memory for the messages of all connections. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    connections: Vec<Weak<Purse>>,
    waiting: Vec<Waker>,
}

impl Memory {
    /// Makes a memory of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { limit, state: Mutex::default() }))
    }

    /// Makes the budget of a new connection, with at most `limit` of the bytes.
    pub fn connection(&self, limit: usize) -> Budget {
        let purse = Arc::new(Purse {
            memory: self.clone(),
            limit,
            held: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            revoking: Notify::new(),
        });
        let mut state = self.state();
        state.connections.retain(|connection| connection.strong_count() > 0);
        state.connections.push(Arc::downgrade(&purse));
        drop(state);
        Budget(purse)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The budget of one connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    memory: Memory,
    limit: usize,
    /// The bytes held beyond the streams' shares. Changed only while the memory is locked.
    held: AtomicUsize,
    streams: AtomicUsize,
    revoked: AtomicBool,
    revoking: Notify,
}

impl Default for Budget {
    /// A budget without a limit.
    fn default() -> Self {
        Memory::new(usize::MAX).connection(usize::MAX)
    }
}

impl Budget {
    /// The share of another stream of the connection.
    pub(crate) fn stream(&self) -> Share {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        Share(Arc::new(Stream { purse: self.0.clone(), own: Mutex::default() }))
    }

    /// The bytes that the connection's streams hold beyond their shares.
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Waits until the connection must end: it held the most of all connections when the memory was
    /// used up.
    pub async fn revoked(&self) {
        while !self.0.revoked.load(Ordering::Relaxed) {
            self.0.revoking.notified().await;
        }
    }
}

impl Purse {
    /// Takes that much, unless others hold it. One message of any length is always possible.
    fn take(self: &Arc<Self>, bytes: usize, waker: Option<&Waker>) -> bool {
        let mut state = self.memory.state();
        let held = self.held.load(Ordering::Relaxed);
        let fits = |held: usize, limit: usize| held == 0 || held.saturating_add(bytes) <= limit;
        let mut granted = fits(held, self.limit);
        if granted && !fits(state.held, self.memory.0.limit) {
            let others = state.connections.iter().filter_map(Weak::upgrade);
            let largest = others.max_by_key(|other| other.held.load(Ordering::Relaxed));
            match largest.filter(|largest| largest.held.load(Ordering::Relaxed) > held) {
                // It ends soon, and releases what it holds.
                Some(largest) => largest.revoke(),
                None => granted = false,
            }
        }
        if granted {
            state.held += bytes;
            self.held.store(held + bytes, Ordering::Relaxed);
        } else if let Some(waker) = waker
            && !state.waiting.iter().any(|waiting| waiting.will_wake(waker))
        {
            state.waiting.push(waker.clone());
        }
        granted
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.memory.state();
        state.held -= bytes;
        self.held.store(self.held.load(Ordering::Relaxed) - bytes, Ordering::Relaxed);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
        // The waiter may not wait yet: then it finds the permit.
        self.revoking.notify_one();
    }

    fn share(&self) -> usize {
        (SHARES / self.streams.load(Ordering::Relaxed).max(1)).clamp(MIN_SHARE, MAX_SHARE)
    }
}

/// The memory of one stream. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    purse: Arc<Purse>,
    own: Mutex<Own>,
}

/// The held part of the stream's own share, and the waiter for it.
#[derive(Debug, Default)]
struct Own {
    held: usize,
    waiting: Option<Waker>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.purse.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    fn take_with(&self, bytes: usize, waker: Option<&Waker>) -> Option<Hold> {
        let stream = &self.0;
        let share = stream.purse.share();
        let is_own = bytes <= share;
        let granted = if is_own {
            let mut own = stream.own();
            let fits = own.held == 0 || own.held + bytes <= share;
            match fits {
                true => own.held += bytes,
                false => own.waiting = waker.cloned(),
            }
            fits
        } else {
            stream.purse.take(bytes, waker)
        };
        granted.then(|| Hold { stream: stream.clone(), bytes, is_own })
    }

    /// Takes memory at once.
    ///
    /// # Errors
    /// `ResourceExhausted` if others hold it.
    pub(crate) fn take(&self, bytes: usize) -> Result<Hold, Error> {
        self.take_with(bytes, None).ok_or_else(|| exhausted(&self.0.purse))
    }

    /// Takes memory as soon as it is available.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        bytes: usize,
        patience: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<Hold, Error>> {
        if let Some(hold) = self.take_with(bytes, Some(cx.waker())) {
            *patience = None;
            return Poll::Ready(Ok(hold));
        }
        if bytes <= self.0.purse.share() {
            return Poll::Pending;
        }
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(WAIT_LIMIT)));
        patience.as_mut().poll(cx).map(|()| Err(exhausted(&self.0.purse)))
    }
}

fn exhausted(purse: &Purse) -> Error {
    let held = purse.held.load(Ordering::Relaxed);
    let message = format!(
        "there is no memory for the message: messages of this connection that nobody has read hold {held} bytes"
    );
    Error::resource_exhausted(message)
}

/// Memory that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    stream: Arc<Stream>,
    bytes: usize,
    is_own: bool,
}

impl Hold {
    /// Whether it is from the connection's budget, and not from the stream's own share.
    pub(crate) fn is_shared(&self) -> bool {
        !self.is_own
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_own {
            return self.stream.purse.give_back(self.bytes);
        }
        let mut own = self.stream.own();
        own.held -= self.bytes;
        let waiting = own.waiting.take();
        drop(own);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::ErrorKind;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_stream_has_a_share_that_others_cannot_take() {
        let memory = Memory::new(64 * MIB);
        let budget = memory.connection(16 * MIB);
        let (greedy, modest) = (budget.stream(), budget.stream());
        let first = greedy.take(16 * MIB).unwrap();
        assert!(first.is_shared());
        greedy.take(3 * MIB).unwrap_err();
        let small = modest.take(MIB).unwrap();
        assert!(!small.is_shared());
        modest.take(MIB + 1).unwrap_err();
        let large = greedy.take(2 * MIB).unwrap();
        assert!(!large.is_shared(), "its own share is free");
        drop((small, large));
        drop(modest.take(MIB + 1).unwrap());
        drop(first);
        assert_eq!(budget.held_bytes(), 0);
        drop(greedy.take(15 * MIB).unwrap());
    }

    #[test]
    fn the_shares_of_many_streams_are_small() {
        let budget = Memory::new(0).connection(0);
        let streams: Vec<_> = (0..1024).map(|_| budget.stream()).collect();
        let _first = streams[0].take(3 * MIB).unwrap();
        assert!(streams[1].take(MIN_SHARE + 1).is_err());
        let held: Vec<_> = streams.iter().map(|stream| stream.take(MIN_SHARE).unwrap()).collect();
        drop((streams, held));
        assert_eq!(budget.0.streams.load(Ordering::Relaxed), 1, "the one whose memory is held");
    }

    #[tokio::test]
    async fn where_all_is_held_the_connection_that_holds_the_most_ends() {
        let memory = Memory::new(32 * MIB);
        let (greedy, other) = (memory.connection(32 * MIB), memory.connection(32 * MIB));
        let (streams, stream) = (greedy.stream(), other.stream());
        let held = [streams.take(16 * MIB).unwrap(), streams.take(16 * MIB).unwrap()];
        streams.take(3 * MIB).unwrap_err();
        let granted = stream.take(16 * MIB).unwrap();
        tokio::time::timeout(Duration::from_secs(5), greedy.revoked()).await.unwrap();
        assert!(!other.0.revoked.load(Ordering::Relaxed));
        drop((held, granted));
        assert_eq!(memory.state().held, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_message_waits_for_those_before_it_as_long_as_it_takes() {
        let budget = Memory::new(32 * MIB).connection(MIB);
        let stream = budget.stream();
        let held = stream.take(3 * MIB / 2).unwrap();
        let mut patience = None;
        let waiting = std::future::poll_fn(|cx| stream.poll_take(cx, MIB, &mut patience));
        let mut waiting = std::pin::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1000), waiting.as_mut()).await.is_err());
        drop(budget.stream().take(2 * MIB).unwrap());
        drop(held);
        drop(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_waits_until_there_is_memory_and_not_for_ever() {
        let budget = Memory::new(32 * MIB).connection(4 * MIB);
        let (one, two) = (budget.stream(), budget.stream());
        let held = one.take(4 * MIB).unwrap();
        let mut patience = None;
        let mut waiting =
            std::pin::pin!(std::future::poll_fn(|cx| two.poll_take(cx, 4 * MIB, &mut patience)));
        let early = tokio::time::timeout(Duration::from_secs(10), waiting.as_mut()).await;
        assert!(early.is_err(), "it waits");
        drop(held);
        let held = waiting.await.unwrap();
        let mut patience = None;
        let refused =
            std::future::poll_fn(|cx| one.poll_take(cx, 4 * MIB, &mut patience)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        drop(held);
    }
}
