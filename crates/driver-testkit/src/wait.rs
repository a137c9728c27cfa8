//! Waiting for a condition that nothing announces.

use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a condition may take to become true: longer than any machine under load needs.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, and panics at its caller's line if that takes a minute; `what`
/// says what is waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    eventually_some(what, async move || condition().then_some(()))
}

/// Waits until `attempt` returns something, as [`eventually`] does.
#[track_caller]
pub fn eventually_some<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            assert!(started.elapsed() < LIMIT, "{caller}: not within a minute: {what}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits on this thread until `condition` holds; false if it does not within `limit`.
#[expect(clippy::disallowed_methods, reason = "for tests without a runtime")]
pub fn blocking_eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
