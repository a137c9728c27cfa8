//! Who is connected: how many connections there may be, and which of those without a call give way
//! to others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::guesses::network;
use crate::seldom::Seldom;

/// The most connections without a call, of all addresses and of one, however many descriptors there
/// are.
const MAX_STRANGERS: usize = 512;
const MAX_STRANGERS_OF_ONE: usize = 256;
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
        let strangers = (free / 4).clamp(2, MAX_STRANGERS);
        let strangers_of_one = (strangers / 2).clamp(1, MAX_STRANGERS_OF_ONE);
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
    /// TCP connections on which no call was admitted yet, the oldest first.
    strangers: VecDeque<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    network: Option<IpAddr>,
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

    /// As [`enter`](Self::enter), once most of those that are to give way have left: they hold
    /// descriptors.
    pub(crate) async fn enter_in_turn(&self, origin: Origin) -> Option<Place> {
        let settled = async {
            while self.state().leaving > MAX_LEAVING {
                self.0.left.notified().await;
            }
        };
        // They end at once, unless this machine is very busy.
        drop(tokio::time::timeout(LEAVING_LIMIT, settled).await);
        self.enter(origin)
    }

    /// A place for a new connection, for which one without a call may have to end; `None` where
    /// there is none.
    pub(crate) fn enter(&self, origin: Origin) -> Option<Place> {
        let bounds = self.0.bounds;
        let mut state = self.state();
        let end = CancellationToken::new();
        state.last += 1;
        let id = state.last;
        let refused = match origin {
            Origin::Hooks => false,
            Origin::Unix => state.unix >= bounds.unix,
            Origin::Tcp(address) => {
                let network = network(Some(address));
                let of_one =
                    state.strangers.iter().filter(|other| other.network == network).count();
                let has_room = if of_one >= bounds.strangers_of_one {
                    state.end_oldest_of(network)
                } else if state.strangers.len() >= bounds.strangers || state.tcp >= bounds.tcp {
                    state.end_one()
                } else {
                    true
                };
                // Connections that are to end may take a moment.
                let refused = !has_room || state.tcp > bounds.tcp + MAX_LEAVING;
                if !refused {
                    state.strangers.push_back(Stranger { id, network, end: end.clone() });
                }
                refused
            }
        };
        if refused {
            drop(state);
            self.refuse(origin);
            return None;
        }
        match origin {
            Origin::Hooks => {}
            Origin::Unix => state.unix += 1,
            Origin::Tcp(_) => state.tcp += 1,
        }
        drop(state);
        Some(Place { crowd: self.clone(), id, origin, end, left: Mutex::new(false) })
    }

    /// Whether a line about a connection that ends may be logged: strangers bring them about.
    pub(crate) fn may_speak(&self) -> bool {
        self.0.farewells.speak().is_some()
    }

    fn refuse(&self, origin: Origin) {
        let Some(unlogged) = self.0.refusals.speak() else { return };
        let unlogged_before = (unlogged > 0).then_some(unlogged);
        let (kind, most) = match origin {
            Origin::Tcp(_) => ("TCP", self.0.bounds.tcp),
            _ => ("Unix socket", self.0.bounds.unix),
        };
        tracing::warn!(
            unlogged_before,
            "a connection is refused: {most} {kind} connections are open; raise `ulimit -n` for more"
        );
    }
}

impl State {
    /// Ends that one, if there is one.
    fn end(&mut self, index: Option<usize>) -> bool {
        let Some(stranger) = index.and_then(|index| self.strangers.remove(index)) else {
            return false;
        };
        stranger.end.cancel();
        self.leaving += 1;
        true
    }

    fn end_oldest_of(&mut self, network: Option<IpAddr>) -> bool {
        self.end(self.strangers.iter().position(|stranger| stranger.network == network))
    }

    /// Ends the oldest one of the address that has the most: silent connections crowd out each
    /// other, not the rest.
    fn end_one(&mut self) -> bool {
        let mut counts = HashMap::new();
        for stranger in &self.strangers {
            *counts.entry(stranger.network).or_insert(0_usize) += 1;
        }
        let count = |index: &usize| counts.get(&self.strangers[*index].network).copied();
        let oldest = (0..self.strangers.len()).rev().max_by_key(count);
        self.end(oldest)
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
            Bounds { tcp: 20, unix: 10, strangers: 10, strangers_of_one: 5 }
        );
        let many = Bounds::of(1 << 20);
        assert_eq!((many.strangers, many.strangers_of_one), (MAX_STRANGERS, MAX_STRANGERS_OF_ONE));
        assert!(Bounds::of(0).tcp > 0, "it starts all the same");
    }

    #[test]
    fn silent_connections_crowd_out_each_other_and_not_the_rest() {
        let crowd = Crowd::within(Bounds { tcp: 100, unix: 2, strangers: 6, strangers_of_one: 4 });
        let modest = crowd.enter(tcp(1)).unwrap();
        let greedy: Vec<_> = (0..6).map(|_| crowd.enter(tcp(2)).unwrap()).collect();
        assert_eq!(ended(&greedy), [0, 1], "its own oldest give way");
        let other: Vec<_> = (0..2).map(|_| crowd.enter(tcp(3)).unwrap()).collect();
        assert_eq!(ended(&greedy), [0, 1, 2], "those of the address that has the most");
        assert!(!modest.end.is_cancelled() && ended(&other).is_empty());
        modest.admit();
        greedy[5].admit();
        let more: Vec<_> = (0..20).map(|_| crowd.enter(tcp(2)).unwrap()).collect();
        assert!(
            !modest.end.is_cancelled() && !greedy[5].end.is_cancelled() && ended(&other).is_empty()
        );
        drop((modest, greedy, other, more));
        let state = crowd.state();
        assert_eq!((state.tcp, state.strangers.len()), (0, 0));
    }

    #[test]
    fn clients_keep_their_places_and_each_kind_of_socket_has_its_own() {
        let crowd = Crowd::within(Bounds { tcp: 3, unix: 2, strangers: 2, strangers_of_one: 2 });
        let clients: Vec<_> = (0..3).map(|_| crowd.enter(tcp(1)).unwrap()).collect();
        clients.iter().for_each(Place::admit);
        assert!(crowd.enter(tcp(2)).is_none(), "clients do not give way");
        let unix: Vec<_> = (0..2).map(|_| crowd.enter(Origin::Unix).unwrap()).collect();
        assert!(crowd.enter(Origin::Unix).is_none());
        assert!(crowd.enter(Origin::Hooks).is_some());
        clients[0].leave();
        clients[0].leave();
        let next = crowd.enter(tcp(2)).unwrap();
        assert!(crowd.enter(tcp(3)).is_some(), "a stranger gives way");
        assert!(next.end.is_cancelled());
        drop(unix);
        assert!(crowd.enter(Origin::Unix).is_some());
    }
}
