//! Who guessed a passphrase wrong, how often, and until when they are not listened to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// After the first wrong guess; twice as long after each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);
/// Addresses that are remembered at a time.
const MAX_PEERS: usize = 4096;
/// Who has not guessed wrong for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// The wrong guesses of each address.
#[derive(Debug, Default)]
pub(crate) struct Guesses(HashMap<Option<IpAddr>, Wrong>);

#[derive(Debug)]
struct Wrong {
    failures: u32,
    until: Instant,
    /// Somebody waits until then, to be looked at next.
    turn_taken: bool,
}

/// The addresses that one client has: in IPv6 a whole network of 64 bits.
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    let address = address?.to_canonical();
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
    })
}

impl Guesses {
    /// How long that address is not listened to yet.
    pub(crate) fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let until = self.0.get(&network(address))?.until;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Whether the caller is the one that may wait, and be looked at next.
    pub(crate) fn take_turn(&mut self, address: Option<IpAddr>) -> bool {
        self.0.get_mut(&network(address)).is_some_and(|wrong| !std::mem::replace(&mut wrong.turn_taken, true))
    }

    /// Lets another one wait.
    pub(crate) fn give_turn_back(&mut self, address: Option<IpAddr>) {
        if let Some(wrong) = self.0.get_mut(&network(address)) {
            wrong.turn_taken = false;
        }
    }

    /// Counts a wrong guess, and says how many there were.
    pub(crate) fn failed(&mut self, address: Option<IpAddr>, now: Instant) -> u32 {
        let address = network(address);
        if !self.0.contains_key(&address) && self.0.len() >= MAX_PEERS {
            self.make_room(now);
        }
        let wrong = self.0.entry(address).or_insert(Wrong { failures: 0, until: now, turn_taken: false });
        let delay = FIRST_DELAY.saturating_mul(1 << wrong.failures.min(10)).min(LAST_DELAY);
        wrong.failures = wrong.failures.saturating_add(1);
        wrong.until = now + delay;
        wrong.failures
    }

    /// The address is an honest client's.
    pub(crate) fn forget(&mut self, address: Option<IpAddr>) {
        self.0.remove(&network(address));
    }

    /// Forgets those of long ago, and if there are none the one that would be listened to again first.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, wrong| wrong.until + MEMORY > now);
        if self.0.len() >= MAX_PEERS
            && let Some(first) =
                self.0.iter().min_by_key(|(_, wrong)| wrong.until).map(|(address, _)| *address)
        {
            self.0.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_a_network_is_one_client() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(guesses.failed(address("2001:db8::1"), now), 1);
        assert_eq!(guesses.failed(address("2001:db8::ffff:2"), now), 2);
        assert_eq!(guesses.failed(address("::ffff:192.0.2.1"), now), 1);
        assert_eq!(guesses.failed(address("192.0.2.1"), now), 2);
        for number in 0..2 * MAX_PEERS as u32 {
            guesses.failed(Some(IpAddr::V4((0x0a00_0000 + number).into())), now);
            assert!(guesses.0.len() <= MAX_PEERS);
        }
        assert!(guesses.wait(address("2001:db8::1"), now).is_some(), "the most persistent is remembered");
    }
}
