//! The controller's clock. It runs on tokio's, so a test that pauses tokio's time pauses it too.
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use tokio::time::Instant;

/// The time since 1970, and where tokio's time stands then.
#[derive(Debug)]
pub(crate) struct Clock {
    at_start: Duration,
    start: Instant,
    /// Seconds that the clock is ahead of the host's.
    skew: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at_start, start: Instant::now(), skew: AtomicI64::new(0) }
    }

    /// Seconds since 1970: the controller keeps times in whole seconds, rounded down.
    pub(crate) fn seconds(&self) -> i64 {
        self.since_1970().as_secs().cast_signed() + self.skew.load(Ordering::Relaxed)
    }

    /// The time with its fraction.
    pub(crate) fn precise(&self) -> Timestamp {
        let nanos = self.since_1970().subsec_nanos().cast_signed();
        Timestamp { seconds: self.seconds(), nanos }
    }

    /// When the clock will show `seconds`; a time of the past is now.
    pub(crate) fn instant(&self, seconds: i64) -> Instant {
        let seconds = seconds - self.skew.load(Ordering::Relaxed);
        let at = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        self.start + at.saturating_sub(self.at_start)
    }

    pub(crate) fn set_skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }

    fn since_1970(&self) -> Duration {
        self.at_start + self.start.elapsed()
    }
}

/// A duration as Go prints it: `1m30s`.
pub(crate) fn go_duration(nanoseconds: i128) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let (whole, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
    let fraction = match fraction {
        0 => String::new(),
        some => format!(".{some:09}").trim_end_matches('0').to_owned(),
    };
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{fraction}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{fraction}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{fraction}s"),
    }
}
