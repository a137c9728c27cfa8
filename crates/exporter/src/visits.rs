//! The operator's log lines about clients that come and go, at a bounded rate.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::logs::VISITS;

/// How many visits are logged in each interval; of the others only the number.
const LOGGED: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(10);

/// The visits of one exporter. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visits(Arc<Mutex<Rate>>);

#[derive(Debug, Default)]
struct Rate {
    since: Option<Instant>,
    logged: u32,
    left_out: u32,
}

impl Rate {
    /// Whether one more may be logged, and how many were omitted in the interval before.
    fn one_more(&mut self, now: Instant) -> Option<u32> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now - since >= INTERVAL) {
            left_out = std::mem::take(&mut self.left_out);
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged == LOGGED {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(left_out)
    }
}

impl Visits {
    /// A client's first call was admitted. Its end is logged when the returned value is dropped, if
    /// its start was.
    pub(crate) fn begin(&self, address: Option<IpAddr>) -> Option<Visit> {
        let now = Instant::now();
        let left_out = self.0.lock().unwrap_or_else(PoisonError::into_inner).one_more(now)?;
        let address = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        if left_out > 0 {
            tracing::info!(target: VISITS, clients = left_out, "more clients came and went than are logged");
        }
        tracing::info!(target: VISITS, address, "a client connected");
        Some(Visit { address, began: now })
    }
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Visit {
    address: String,
    began: Instant,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (address, duration) = (&self.address, self.began.elapsed());
        tracing::info!(target: VISITS, address, ?duration, "a client left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted() {
        let mut rate = Rate::default();
        for _ in 0..LOGGED {
            assert_eq!(rate.one_more(Instant::now()), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(rate.one_more(Instant::now()), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(rate.one_more(Instant::now()), Some(5));
        assert_eq!(rate.one_more(Instant::now()), Some(0));
    }
}
