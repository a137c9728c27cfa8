//! Waits for conditions without a notification.

use std::panic::Location;
use std::time::{Duration, Instant};

/// The time limit of a condition: more than a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, and panics at its caller's line after a minute; `what` names the
/// condition.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    eventually_some(what, async move || condition().then_some(()))
}

/// Waits until `attempt` returns a value, as [`eventually`] does.
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

/// Waits on this thread until `condition` holds; returns false after `limit`.
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
