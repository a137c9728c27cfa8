//! Limits log lines that others can cause at will: a few in a row, then one at intervals.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Decides which of many like events are logged.
#[derive(Debug)]
pub(crate) struct Seldom {
    at_once: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the full number in a row is available again.
    idle_at: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Allows `at_once` in a row, and then one in each interval.
    pub(crate) fn new(at_once: u32, interval: Duration) -> Self {
        Self { at_once, interval, state: Mutex::default() }
    }

    /// The number of events since the last logged one; `None` if this one is not to be logged
    /// either.
    pub(crate) fn speak(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_at = state.idle_at.map_or(now, |at| at.max(now)) + self.interval;
        if idle_at - now > self.interval * self.at_once {
            state.unsaid += 1;
            return None;
        }
        state.idle_at = Some(idle_at);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_events_is_few_lines() {
        let seldom = Seldom::new(10, Duration::from_secs(1));
        assert_eq!((0..1000).filter(|_| seldom.speak().is_some()).count(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((seldom.speak(), seldom.speak()), (Some(990), None));
    }
}
