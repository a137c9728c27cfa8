//! Counts the wrong passphrases of each address, and schedules the next answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// The delay of the first wrong answer; each further one takes twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);
/// The most pending wrong answers of one address; further calls are refused at once.
pub(crate) const MAX_DUE: u32 = 8;
/// The most remembered addresses.
const MAX_PEERS: usize = 4096;
/// An address without a wrong guess for this long is forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// The wrong guesses of each address.
#[derive(Debug, Default)]
pub(crate) struct Guesses(HashMap<Option<IpAddr>, Wrong>);

#[derive(Debug)]
struct Wrong {
    failures: u32,
    /// When the last wrong answer is due.
    last: Instant,
    /// The number of pending wrong answers.
    due: u32,
}

/// The addresses of one client: in IPv6 a whole network of 64 bits.
pub(crate) fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    let address = address?.to_canonical();
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
    })
}

impl Guesses {
    /// Counts a wrong guess. Returns when to answer it, after [`answered`](Self::answered) at the
    /// latest; `None` for one too many.
    pub(crate) fn failed(&mut self, address: Option<IpAddr>, now: Instant) -> Option<Instant> {
        let address = network(address);
        if !self.0.contains_key(&address) && self.0.len() >= MAX_PEERS {
            self.make_room(now);
        }
        let wrong = self.0.entry(address).or_insert(Wrong { failures: 0, last: now, due: 0 });
        if wrong.due >= MAX_DUE {
            return None;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << wrong.failures.min(10)).min(LAST_DELAY);
        wrong.failures = wrong.failures.saturating_add(1);
        // Guessers that leave delay the next answer no more than those that wait.
        wrong.last = (wrong.last.max(now) + delay).min(now + LAST_DELAY * MAX_DUE);
        wrong.due += 1;
        Some(wrong.last)
    }

    /// A wrong answer was given, or its client left before.
    pub(crate) fn answered(&mut self, address: Option<IpAddr>) {
        if let Some(wrong) = self.0.get_mut(&network(address)) {
            wrong.due = wrong.due.saturating_sub(1);
        }
    }

    /// The address has an honest client: the next delay is short again.
    pub(crate) fn forgive(&mut self, address: Option<IpAddr>) {
        if let Some(wrong) = self.0.get_mut(&network(address)) {
            wrong.failures = 0;
        }
    }

    /// Forgets old addresses, or else the one whose last answer is the oldest.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, wrong| wrong.last + MEMORY > now);
        if self.0.len() >= MAX_PEERS
            && let Some(first) =
                self.0.iter().min_by_key(|(_, wrong)| wrong.last).map(|(address, _)| *address)
        {
            self.0.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_a_network_is_one_client() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        let mut wait = |text: &str| guesses.failed(address(text), now).unwrap() - now;
        assert_eq!(wait("2001:db8::1"), Duration::from_millis(100));
        assert_eq!(wait("2001:db8::ffff:2"), Duration::from_millis(300));
        assert_eq!(wait("::ffff:192.0.2.1"), Duration::from_millis(100));
        assert_eq!(wait("192.0.2.1"), Duration::from_millis(300));
        for number in 0..2 * MAX_PEERS as u32 {
            guesses.failed(Some(IpAddr::V4((0x0a00_0000 + number).into())), now);
            assert!(guesses.0.len() <= MAX_PEERS);
        }
        let persistent = guesses.failed(address("2001:db8::1"), now).unwrap() - now;
        assert_eq!(persistent, Duration::from_millis(700), "the most persistent is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_one_after_the_other_and_few_are_due() {
        let mut guesses = Guesses::default();
        let (peer, now) = (address("192.0.2.1"), Instant::now());
        let due: Vec<_> =
            (0..20).filter_map(|_| guesses.failed(peer, now)).map(|due| due - now).collect();
        let expected = [100, 300, 700, 1500, 3100, 6300, 11300, 16300].map(Duration::from_millis);
        assert_eq!(due, expected);
        assert!(guesses.failed(address("192.0.2.2"), now).is_some(), "another address");
        guesses.answered(peer);
        assert_eq!(
            guesses.failed(peer, now).map(|due| due - now),
            Some(Duration::from_millis(21300))
        );
        assert_eq!(guesses.failed(peer, now), None);
        for _ in 0..MAX_DUE {
            guesses.answered(peer);
        }
        guesses.forgive(peer);
        let later = now + Duration::from_secs(60);
        assert_eq!(guesses.failed(peer, later).map(|due| due - later), Some(FIRST_DELAY));
    }
}
