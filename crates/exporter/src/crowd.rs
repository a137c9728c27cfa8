//! Who is connected: how many connections there may be, and which of those without a call give way
//! to others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::guesses::network;
use crate::seldom::Seldom;

/// The most connections without a call, of all addresses and of one, however many descriptors there
/// are.
const MAX_STRANGERS: usize = 512;
const MAX_STRANGERS_OF_ONE: usize = 256;
/// A connection has at least this long for its first call before it gives way to another one of its
/// address. Each refusal in a row makes the time shorter, a half, a third, so that a flood lets in
/// every so many-th connection: an honest client is one of them, or tries again.
const PROTECTED: Duration = Duration::from_secs(1);
/// Those that are to give way, before the next one is let in; they have so long.
const MAX_LEAVING: usize = 4;
const LEAVING_LIMIT: Duration = Duration::from_secs(1);
/// Descriptors that the exporter itself needs after its start: listeners, pipes.
const OWN_DESCRIPTORS: usize = 8;
/// What is reckoned with where a process cannot see its descriptors.
const USUAL_DESCRIPTORS: usize = 32;

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    tcp: usize,
    unix: usize,
    strangers: usize,
    strangers_of_one: usize,
}

impl Bounds {
    /// Of the descriptors that are free TCP has half and Unix sockets a quarter: the rest is the
    /// drivers'.
    fn of(free: usize) -> Self {
        let strangers = (free / 3).clamp(2, MAX_STRANGERS);
        let strangers_of_one = (strangers * 3 / 4).clamp(1, MAX_STRANGERS_OF_ONE);
        Self { tcp: (free / 2).max(4), unix: (free / 4).max(4), strangers, strangers_of_one }
    }
}

/// The descriptors that this process may still open.
fn free_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(USUAL_DESCRIPTORS, Iterator::count);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open + OWN_DESCRIPTORS)
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The socket that only this exporter's hooks know.
    Hooks,
    Unix,
    Tcp(IpAddr),
}

/// The connections of one exporter. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Crowd(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    refusals: Seldom,
    farewells: Seldom,
    /// A connection has left that was to give way.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    tcp: usize,
    unix: usize,
    last: u64,
    /// Those that are to give way, and have not left yet.
    leaving: usize,
    /// TCP connections that were refused since the last one was let in.
    refused_in_a_row: u32,
    /// TCP connections on which no call was admitted yet, the oldest first.
    strangers: VecDeque<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    network: Option<IpAddr>,
    since: Instant,
    end: CancellationToken,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Self::within(Bounds::of(free_descriptors()))
    }

    fn within(bounds: Bounds) -> Self {
        let refusals = Seldom::new(3, Duration::from_secs(10));
        let farewells = Seldom::new(20, Duration::from_secs(1));
        Self(Arc::new(Shared {
            bounds,
            state: Mutex::default(),
            refusals,
            farewells,
            left: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, for which one without a call may have to end; `None` where
    /// there is none. Those that are to give way leave first: they hold descriptors.
    pub(crate) async fn enter(&self, origin: Origin) -> Option<Place> {
        let settled = async {
            while self.state().leaving > MAX_LEAVING {
                self.0.left.notified().await;
            }
        };
        // They end at once, unless this machine is very busy.
        drop(tokio::time::timeout(LEAVING_LIMIT, settled).await);
        if let Some(place) = self.take_place(origin) {
            return Some(place);
        }
        // Those whose client has closed them may not have noticed yet.
        tokio::task::yield_now().await;
        let place = self.take_place(origin);
        if place.is_none() {
            self.refuse(origin);
        }
        place
    }

    fn take_place(&self, origin: Origin) -> Option<Place> {
        let bounds = self.0.bounds;
        let mut state = self.state();
        let end = CancellationToken::new();
        let id = state.last + 1;
        match origin {
            Origin::Hooks => {}
            Origin::Unix if state.unix >= bounds.unix => return None,
            Origin::Unix => state.unix += 1,
            Origin::Tcp(address) => {
                let (network, since) = (network(Some(address)), Instant::now());
                let has_room = state.make_room(network, since, bounds);
                // Connections that are to end may take a moment.
                if !has_room || state.tcp > bounds.tcp + MAX_LEAVING {
                    return None;
                }
                state.refused_in_a_row = 0;
                state.strangers.push_back(Stranger { id, network, since, end: end.clone() });
                state.tcp += 1;
            }
        }
        state.last = id;
        drop(state);
        Some(Place { crowd: self.clone(), id, origin, end, left: Mutex::new(false) })
    }

    /// Whether a line about a connection that ends may be logged: strangers bring them about.
    pub(crate) fn may_speak(&self) -> bool {
        self.0.farewells.speak().is_some()
    }

    fn refuse(&self, origin: Origin) {
        if let Origin::Tcp(_) = origin {
            let mut state = self.state();
            state.refused_in_a_row = state.refused_in_a_row.saturating_add(1);
        }
        let Some(unlogged) = self.0.refusals.speak() else { return };
        let unlogged_before = (unlogged > 0).then_some(unlogged);
        match origin {
            Origin::Tcp(address) => tracing::warn!(
                %address,
                unlogged_before,
                "a connection is refused: too many are open, or wait for their first call; raise `ulimit -n` for more"
            ),
            _ => tracing::warn!(
                unlogged_before,
                "a connection is refused: {} Unix socket connections are open; raise `ulimit -n` for more",
                self.0.bounds.unix
            ),
        }
    }
}

impl State {
    /// Whether there is room for one more of this network, for which the oldest stranger of a
    /// network may have to end: its own, if that has as many as one may have, or the one with the
    /// most. Silent connections crowd out each other, not the rest.
    fn make_room(&mut self, network: Option<IpAddr>, now: Instant, bounds: Bounds) -> bool {
        let is_full = self.strangers.len() >= bounds.strangers || self.tcp >= bounds.tcp;
        if !is_full && self.strangers.len() < bounds.strangers_of_one {
            return true;
        }
        let mut counts = HashMap::from([(network, 1)]);
        for stranger in &self.strangers {
            *counts.entry(stranger.network).or_insert(0) += 1;
        }
        let own = counts[&network];
        let oldest = if own > bounds.strangers_of_one {
            self.strangers.iter().position(|stranger| stranger.network == network)
        } else if is_full {
            let places = (0..self.strangers.len()).rev();
            places.max_by_key(|index| {
                let other = self.strangers[*index].network;
                (counts[&other], other == network)
            })
        } else {
            return true;
        };
        let Some(index) = oldest else { return false };
        let stranger = &self.strangers[index];
        let is_greedier = counts[&stranger.network] > own;
        let protected = PROTECTED / (self.refused_in_a_row + 1);
        if !is_greedier && now < stranger.since + protected {
            return false;
        }
        stranger.end.cancel();
        self.strangers.remove(index);
        self.leaving += 1;
        true
    }
}

/// The place of one connection, until it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    id: u64,
    origin: Origin,
    end: CancellationToken,
    left: Mutex<bool>,
}

impl Place {
    /// A call was admitted: the connection gives way to nobody any more.
    pub(crate) fn admit(&self) {
        self.crowd.state().strangers.retain(|stranger| stranger.id != self.id);
    }

    /// Waits until the connection is to give way.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// The connection is closed. Only the first time counts.
    pub(crate) fn leave(&self) {
        if std::mem::replace(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return;
        }
        let mut state = self.crowd.state();
        state.strangers.retain(|stranger| stranger.id != self.id);
        if self.end.is_cancelled() {
            state.leaving -= 1;
            self.crowd.0.left.notify_one();
        }
        match self.origin {
            Origin::Hooks => {}
            Origin::Unix => state.unix -= 1,
            Origin::Tcp(_) => state.tcp -= 1,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(last: u8) -> Origin {
        Origin::Tcp([192, 0, 2, last].into())
    }

    fn ended(places: &[Place]) -> Vec<usize> {
        (0..places.len()).filter(|index| places[*index].end.is_cancelled()).collect()
    }

    #[test]
    fn few_descriptors_leave_a_reserve() {
        assert_eq!(
            Bounds::of(40),
            Bounds { tcp: 20, unix: 10, strangers: 13, strangers_of_one: 9 }
        );
        let many = Bounds::of(1 << 20);
        assert_eq!((many.strangers, many.strangers_of_one), (MAX_STRANGERS, MAX_STRANGERS_OF_ONE));
        assert!(Bounds::of(0).tcp > 0, "it starts all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_crowd_out_each_other_and_not_the_rest() {
        let crowd = Crowd::within(Bounds { tcp: 100, unix: 2, strangers: 6, strangers_of_one: 4 });
        let modest = crowd.take_place(tcp(1)).unwrap();
        let mut greedy = Vec::new();
        for _ in 0..6 {
            greedy.push(crowd.take_place(tcp(2)).unwrap());
            tokio::time::advance(PROTECTED).await;
        }
        assert_eq!(ended(&greedy), [0, 1], "its own oldest give way");
        let other: Vec<_> = (0..2).map(|_| crowd.take_place(tcp(3)).unwrap()).collect();
        assert_eq!(ended(&greedy), [0, 1, 2], "those of the address that has the most");
        assert!(!modest.end.is_cancelled() && ended(&other).is_empty());
        modest.admit();
        greedy[5].admit();
        let mut more = Vec::new();
        for _ in 0..20 {
            more.push(crowd.take_place(tcp(2)).unwrap());
            tokio::time::advance(PROTECTED).await;
        }
        assert!(
            !modest.end.is_cancelled() && !greedy[5].end.is_cancelled() && ended(&other).is_empty()
        );
        drop((modest, greedy, other, more));
        let state = crowd.state();
        assert_eq!((state.tcp, state.strangers.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_has_time_for_its_first_call_unless_its_address_has_too_many() {
        let crowd = Crowd::within(Bounds { tcp: 20, unix: 2, strangers: 8, strangers_of_one: 6 });
        let first: Vec<_> = (0..6).map(|_| crowd.take_place(tcp(1)).unwrap()).collect();
        assert!(crowd.enter(tcp(1)).await.is_none(), "they have only begun");
        assert!(ended(&first).is_empty());
        // Others do not wait for them.
        let others: Vec<_> = (0..4).map(|_| crowd.take_place(tcp(2)).unwrap()).collect();
        assert_eq!((ended(&first).len(), ended(&others).len()), (2, 0));
        drop(first);
        // A flood of one connection each millisecond: one in some gets the time of a handshake.
        let (mut places, mut refused) = (Vec::new(), 0);
        for _ in 0..5000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            match crowd.enter(tcp(1)).await {
                Some(place) => places.push((place, Instant::now())),
                None => refused += 1,
            }
            places.retain(|(place, since)| {
                let is_over = place.end.is_cancelled();
                assert!(!is_over || since.elapsed() > Duration::from_millis(30));
                !is_over
            });
        }
        assert!((4000..4970).contains(&refused), "{refused} of 5000");
        assert!(ended(&others).is_empty(), "the flood is of another address");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_keep_their_places_and_each_kind_of_socket_has_its_own() {
        let crowd = Crowd::within(Bounds { tcp: 3, unix: 2, strangers: 2, strangers_of_one: 2 });
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let place = crowd.take_place(tcp(1)).unwrap();
                place.admit();
                place
            })
            .collect();
        assert!(crowd.take_place(tcp(2)).is_none(), "clients do not give way");
        let unix: Vec<_> = (0..2).map(|_| crowd.take_place(Origin::Unix).unwrap()).collect();
        assert!(crowd.take_place(Origin::Unix).is_none());
        assert!(crowd.take_place(Origin::Hooks).is_some());
        clients[0].leave();
        clients[0].leave();
        let next = crowd.take_place(tcp(2)).unwrap();
        tokio::time::advance(PROTECTED).await;
        assert!(crowd.take_place(tcp(3)).is_some(), "a stranger gives way");
        assert!(next.end.is_cancelled());
        drop(unix);
        assert!(crowd.take_place(Origin::Unix).is_some());
    }
}
