//! The passphrase of a TCP listener: asked for on every call of every kind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use jumpstarter_driver_core::Secret;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;
use tonic::Status;

use crate::connection::Peer;
use crate::guesses::Guesses;

const HEADER: &str = "x-jumpstarter-passphrase";
const TOO_MANY: &str = "too many wrong passphrases come from this address; try again in some seconds";

/// Refuses calls without the right passphrase.
///
/// After a wrong one, calls from the same address are not looked at for a while, and for longer each time: one of them
/// waits, the others are refused. A connection that gave the right one before is not held up by what others at its
/// address do.
#[derive(Clone)]
pub(crate) struct Passphrase(Option<Arc<Guard>>);

struct Guard {
    /// The digest of the passphrase: digests compare in constant time, whatever their passphrases' lengths.
    expected: [u8; 32],
    guesses: Mutex<Guesses>,
}

impl Passphrase {
    pub(crate) fn new(passphrase: Option<&Secret>) -> Self {
        Self(passphrase.map(|passphrase| {
            let expected = sha256(passphrase.expose().as_bytes());
            Arc::new(Guard { expected, guesses: Mutex::default() })
        }))
    }

    /// Lets a call in, at once or after a while.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub(crate) async fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<(), Status> {
        let Some(guard) = &self.0 else { return Ok(()) };
        guard.admit(headers.get(HEADER).map(|value| value.as_bytes()), peer).await
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Passphrase(***)" } else { "Passphrase(none)" })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl Guard {
    fn matches(&self, given: &[u8]) -> bool {
        let given = sha256(given);
        let differences = self.expected.iter().zip(given).fold(0, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(differences) == 0
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges what was given, unless its peer is not looked at yet: then it says for how long.
    fn judge(&self, given: Option<&[u8]>, peer: &Peer) -> Verdict {
        // Nothing was guessed, so nothing is held against the peer.
        let Some(given) = given else {
            return Verdict::Refused(Status::unauthenticated("the passphrase is missing"));
        };
        let trusted = &peer.standing.trusted;
        let mut guesses = self.guesses();
        let now = Instant::now();
        if !trusted.load(Ordering::Relaxed)
            && let Some(wait) = guesses.wait(peer.address, now)
        {
            return match guesses.take_turn(peer.address) {
                true => Verdict::Later(wait),
                false => Verdict::Refused(Status::unauthenticated(TOO_MANY)),
            };
        }
        if self.matches(given) {
            if !trusted.swap(true, Ordering::Relaxed) {
                guesses.forget(peer.address);
            }
            return Verdict::Admitted;
        }
        trusted.store(false, Ordering::Relaxed);
        let failures = guesses.failed(peer.address, now);
        drop(guesses);
        let address = peer.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(failures, address, "a client gave a wrong passphrase");
        Verdict::Refused(Status::unauthenticated("wrong passphrase"))
    }

    async fn admit(&self, given: Option<&[u8]>, peer: &Peer) -> Result<(), Status> {
        match self.judge(given, peer) {
            Verdict::Admitted => Ok(()),
            Verdict::Refused(status) => Err(status),
            Verdict::Later(wait) => self.judge_later(wait, given, peer).await,
        }
    }

    /// Judges after that time. Cancelling lets another one wait.
    async fn judge_later(&self, mut wait: Duration, given: Option<&[u8]>, peer: &Peer) -> Result<(), Status> {
        loop {
            let turn = Turn { guard: self, peer };
            tokio::time::sleep(wait).await;
            drop(turn);
            match self.judge(given, peer) {
                Verdict::Admitted => return Ok(()),
                Verdict::Refused(status) => return Err(status),
                Verdict::Later(again) => wait = again,
            }
        }
    }
}

/// What comes of a call.
enum Verdict {
    Admitted,
    Refused(Status),
    /// It may wait for so long, and must give its turn back then.
    Later(Duration),
}

/// Being the one of an address that waits.
struct Turn<'a> {
    guard: &'a Guard,
    peer: &'a Peer,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.guesses().give_turn_back(self.peer.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer { address: Some([192, 0, 2, last].into()), ..Peer::default() }
    }

    impl Guard {
        fn of(passphrase: &str) -> Arc<Self> {
            Passphrase::new(Some(&Secret::new(passphrase))).0.unwrap()
        }

        /// What is answered to a call, and after how many milliseconds.
        async fn answer(&self, given: &str, peer: &Peer) -> (String, u128) {
            let start = Instant::now();
            let judged = self.admit(Some(given.as_bytes()), peer).await;
            let said = judged.map_or_else(|status| status.message().to_owned(), |()| "admitted".to_owned());
            (said, start.elapsed().as_millis())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_one_closes_the_door_for_longer_to_its_address_only() {
        let guard = Guard::of("right");
        assert_eq!(guard.answer("wrong", &peer(1)).await, ("wrong passphrase".to_owned(), 0));
        for delay in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            // In parallel, on connections of their own: one is looked at, when it is time; no other one, right or not.
            let peers = [peer(1), peer(1), peer(1)];
            let (one, another, third) = tokio::join!(
                guard.answer("wrong", &peers[0]),
                guard.answer("wrong", &peers[1]),
                guard.answer("right", &peers[2]),
            );
            assert_eq!(one, ("wrong passphrase".to_owned(), delay));
            assert_eq!([another, third], [(TOO_MANY.to_owned(), 0), (TOO_MANY.to_owned(), 0)]);
            assert_eq!(guard.answer("right", &peer(2)).await, ("admitted".to_owned(), 0));
        }
        let honest = peer(1);
        assert_eq!(guard.answer("right", &honest).await, ("admitted".to_owned(), 5000));
        assert_eq!(guard.answer("wrong", &peer(1)).await, ("wrong passphrase".to_owned(), 0));
        assert_eq!(guard.answer("right", &honest).await.1, 0, "its own connection is trusted");
        assert_eq!(guard.answer("right", &peer(1)).await, ("admitted".to_owned(), 100), "it began anew");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_gives_the_turn_back() {
        let guard = Guard::of("right");
        guard.answer("wrong", &peer(1)).await;
        let peer = peer(1);
        drop(tokio::time::timeout(Duration::from_millis(10), guard.answer("right", &peer)).await);
        assert_eq!(guard.answer("right", &peer).await, ("admitted".to_owned(), 90));
    }

    #[tokio::test(start_paused = true)]
    async fn none_is_refused_and_not_counted() {
        let guard = Guard::of("right");
        for _ in 0..3 {
            assert!(matches!(guard.judge(None, &peer(1)), Verdict::Refused(_)));
        }
        assert_eq!(guard.answer("right", &peer(1)).await, ("admitted".to_owned(), 0));
        for almost in ["", "righ", "right ", "Right"] {
            assert_eq!(guard.answer(almost, &peer(1)).await.0, "wrong passphrase", "{almost:?}");
        }
    }
}
