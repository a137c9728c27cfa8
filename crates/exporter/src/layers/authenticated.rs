//! The passphrase of a TCP listener: required for every call of every kind.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use jumpstarter_driver_core::{Error, Result, ResultExt, Secret};
use jumpstarter_protocol::metadata::PASSPHRASE;
use jumpstarter_text::{line, truncated};
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use crate::files_watch::FilesWatch;
use crate::guesses::Guesses;
use crate::peer::Peer;
use crate::seldom::Seldom;

const TOO_MANY: &str = "too many wrong passphrases come from this address";
/// The number of failures that are logged in a row; then one for each interval.
const LOGGED_AT_ONCE: u32 = 10;
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// The most of a passphrase's file that is read: only its first line counts.
const MAX_FILE: u64 = 64 << 10;
/// The most of a method's name that is logged, in bytes.
const MAX_METHOD: usize = 120;

/// Refuses calls without the right passphrase.
///
/// The right one is admitted at once, always. Wrong ones are answered late, one after the other for
/// each address, with growing delays; with too many pending ones further calls are refused at once.
#[derive(Clone)]
pub(crate) struct Passphrase(Arc<Guard>);

struct Guard {
    expected: Expected,
    guesses: Mutex<Guesses>,
    log: Seldom,
}

/// The digest of the passphrase: digests compare in constant time for all lengths.
type Digest = [u8; 32];

enum Expected {
    Fixed(Digest),
    OfFile(FilesWatch<Digest>),
}

impl Passphrase {
    pub(crate) fn new(passphrase: &Secret) -> Self {
        Self::expecting(Expected::Fixed(sha256(passphrase.expose().as_bytes())))
    }

    /// Reads the first line of a file, and again after changes.
    ///
    /// # Errors
    /// The errors of reading the file; `InvalidArgument` without a passphrase in it.
    pub(crate) fn of_file(file: PathBuf) -> Result<Self> {
        let read = {
            let file = file.clone();
            move || {
                let doing = || format!("reading the passphrase of {}", file.display());
                let mut text = String::new();
                let opened = File::open(&file).with_context(doing)?;
                opened.take(MAX_FILE).read_to_string(&mut text).with_context(doing)?;
                match text.lines().next().filter(|line| !line.is_empty()) {
                    Some(passphrase) => Ok(sha256(passphrase.as_bytes())),
                    None => Err(Error::invalid_argument("an empty passphrase protects nothing")
                        .context(doing())),
                }
            }
        };
        Ok(Self::expecting(Expected::OfFile(FilesWatch::new("the passphrase", vec![file], read)?)))
    }

    fn expecting(expected: Expected) -> Self {
        Self(Arc::new(Guard {
            expected,
            guesses: Mutex::default(),
            log: Seldom::new(LOGGED_AT_ONCE, LOG_INTERVAL),
        }))
    }

    /// Admits a call.
    ///
    /// # Errors
    /// `Unauthenticated`: at once without a passphrase, after a delay with a wrong one.
    pub(crate) async fn admit(&self, head: &Parts, peer: &Peer) -> Result<()> {
        self.0.admit(&head.headers, head.uri.path(), peer).await
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(***)")
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl Guard {
    async fn matches(&self, given: &[u8]) -> bool {
        let expected = match &self.expected {
            Expected::Fixed(expected) => *expected,
            Expected::OfFile(file) => file.current().await,
        };
        let given = sha256(given);
        let differences =
            expected.iter().zip(given).fold(0, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(differences) == 0
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelling frees the place of a pending wrong answer.
    async fn admit(&self, headers: &HeaderMap, method: &str, peer: &Peer) -> Result<()> {
        // Nothing was guessed, so the peer is not delayed.
        let Some(given) = headers.get(PASSPHRASE) else {
            self.note(method, peer);
            return Err(unauthenticated("the passphrase is missing"));
        };
        if self.matches(given.as_bytes()).await {
            if peer.standing.membership.is_stranger() {
                self.guesses().forgive(peer.address);
            }
            return Ok(());
        }
        self.note(method, peer);
        let Some(due) = self.guesses().failed(peer.address, Instant::now()) else {
            return Err(unauthenticated(TOO_MANY));
        };
        let _due = Due { guard: self, peer };
        tokio::time::sleep_until(due).await;
        Err(unauthenticated("wrong passphrase"))
    }

    /// Logs a refusal with the words of the exporter in Python, which operators search for.
    fn note(&self, method: &str, peer: &Peer) {
        let Some(unsaid) = self.log.speak() else { return };
        let method = line(method);
        let method = truncated(&method, MAX_METHOD);
        let address = peer.address.map(|address| address.to_string()).unwrap_or_default();
        let more = (unsaid > 0).then_some(unsaid);
        tracing::warn!(
            address,
            unlogged_before = more,
            "authentication failed: invalid or missing passphrase for method {method}"
        );
    }
}

fn unauthenticated(message: &str) -> Error {
    Error::unauthenticated(message)
}

/// A pending wrong answer.
struct Due<'a> {
    guard: &'a Guard,
    peer: &'a Peer,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        self.guard.guesses().answered(self.peer.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guesses::MAX_DUE;

    fn peer(last: u8) -> Peer {
        Peer { address: Some([192, 0, 2, last].into()), ..Peer::default() }
    }

    impl Guard {
        fn of(passphrase: &str) -> Arc<Self> {
            Passphrase::new(&Secret::new(passphrase)).0
        }

        /// The answer to a call, and its delay in milliseconds.
        async fn answer(&self, given: &str, peer: &Peer) -> (String, u128) {
            let start = Instant::now();
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(PASSPHRASE),
                http::HeaderValue::from_str(given).unwrap(),
            )]);
            let judged = self.admit(&headers, "/service/Method", peer).await;
            let said = judged.map_or_else(|error| error.to_string(), |()| "admitted".to_owned());
            (said, start.elapsed().as_millis())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_one_is_admitted_at_once_whatever_its_address_does() {
        let guard = Guard::of("right");
        let guesses = futures_util::future::join_all((0..50).map(|_| async {
            let peer = peer(1);
            guard.answer("wrong", &peer).await
        }));
        let honest = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert_eq!(guard.answer("right", &peer(1)).await, ("admitted".to_owned(), 0));
            }
        };
        let (guesses, ()) = tokio::join!(guesses, honest);
        let wrong: Vec<_> = guesses.iter().filter(|(said, _)| said == "wrong passphrase").collect();
        assert_eq!(wrong.len(), MAX_DUE as usize);
        assert!(
            wrong.windows(2).all(|pair| pair[0].1 + 100 <= pair[1].1),
            "one after the other: {wrong:?}"
        );
        let refused = guesses.iter().filter(|answer| **answer == (TOO_MANY.to_owned(), 0)).count();
        assert_eq!(refused, 50 - MAX_DUE as usize);
        assert_eq!(guard.answer("wrong", &peer(2)).await, ("wrong passphrase".to_owned(), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_answer_comes_later_until_an_honest_client_came() {
        let guard = Guard::of("right");
        for delay in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(
                guard.answer("wrong", &peer(1)).await,
                ("wrong passphrase".to_owned(), delay)
            );
        }
        assert_eq!(guard.answer("right", &peer(1)).await, ("admitted".to_owned(), 0));
        assert_eq!(guard.answer("wrong", &peer(1)).await, ("wrong passphrase".to_owned(), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guesser_that_leaves_frees_its_place() {
        let guard = Guard::of("right");
        let peer = peer(1);
        for _ in 0..2 * MAX_DUE {
            let guess = guard.answer("wrong", &peer);
            drop(tokio::time::timeout(Duration::from_millis(10), guess).await);
        }
        let (said, _) = guard.answer("wrong", &peer).await;
        assert_eq!(said, "wrong passphrase");
    }

    #[tokio::test(start_paused = true)]
    async fn none_is_refused_and_not_counted() {
        let guard = Guard::of("right");
        for _ in 0..3 {
            assert!(guard.admit(&HeaderMap::new(), "/service/Method", &peer(1)).await.is_err());
        }
        for (almost, delay) in [("", 100), ("righ", 200), ("right ", 400), ("Right", 800)] {
            assert_eq!(
                guard.answer(almost, &peer(1)).await,
                ("wrong passphrase".to_owned(), delay)
            );
        }
    }
}
