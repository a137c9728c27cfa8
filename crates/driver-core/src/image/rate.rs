//! The speed of a transfer, for its observers.

use std::time::{Duration, Instant};

use super::progress::Progress;

/// Roughly the window of the current rate.
const MEMORY: Duration = Duration::from_secs(3);

/// The rate of a transfer, from the [`Progress`] that an observer receives.
///
/// ```
/// use std::sync::Mutex;
/// use jumpstarter_driver_core::ImageSource;
/// use jumpstarter_driver_core::image::Rate;
///
/// let rate = Mutex::new(Rate::start());
/// let source = ImageSource::path("os.img").with_observer(move |progress| {
///     let Ok(mut rate) = rate.lock() else { return };
///     rate.update(progress);
///     let bytes = progress.transferred_bytes;
///     println!("{bytes} bytes, {:.0} bytes a second", rate.bytes_per_second());
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Rate {
    started: Instant,
    progress: Progress,
    /// When the rate was last computed, and the byte count then.
    updated: Instant,
    counted_bytes: u64,
    current: Option<f64>,
}

impl Rate {
    /// Starts the clock of a transfer.
    pub fn start() -> Self {
        Self::start_at(Instant::now())
    }

    fn start_at(now: Instant) -> Self {
        let progress = Progress { transferred_bytes: 0, total_bytes: None };
        Self { started: now, progress, updated: now, counted_bytes: 0, current: None }
    }

    /// Updates the rate with a new progress.
    pub fn update(&mut self, progress: Progress) {
        self.update_at(progress, Instant::now());
    }

    fn update_at(&mut self, progress: Progress, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        let bytes = progress.transferred_bytes.saturating_sub(self.counted_bytes);
        self.progress = progress;
        // Two reports at the same time give no rate: their bytes count when time has passed.
        if passed <= 0.0 {
            return;
        }
        let latest = bytes as f64 / passed;
        // Older rates fade.
        let weight = 1.0 - (-passed / MEMORY.as_secs_f64()).exp();
        self.current =
            Some(self.current.map_or(latest, |current| current + weight * (latest - current)));
        self.updated = now;
        self.counted_bytes = progress.transferred_bytes;
    }

    /// Bytes per second over the last few seconds; 0 before the first measurement.
    pub fn bytes_per_second(&self) -> f64 {
        self.current.unwrap_or_default()
    }

    /// Bytes per second since the start, up to the last update; 0 before the first measurement.
    pub fn mean_bytes_per_second(&self) -> f64 {
        let passed = self.updated.saturating_duration_since(self.started).as_secs_f64();
        if passed > 0.0 { self.progress.transferred_bytes as f64 / passed } else { 0.0 }
    }

    /// The remaining time at the current rate, if the total is known and the rate is not 0.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.progress.total_bytes?.saturating_sub(self.progress.transferred_bytes);
        let seconds = left as f64 / self.current.filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(transferred_bytes: u64) -> Progress {
        Progress { transferred_bytes, total_bytes: Some(10_000) }
    }

    #[test]
    fn a_steady_transfer_has_its_rate() {
        let start = Instant::now();
        let mut rate = Rate::start_at(start);
        assert_eq!((rate.bytes_per_second(), rate.mean_bytes_per_second()), (0.0, 0.0));
        assert_eq!(rate.remaining(), None);
        for second in 1..=5 {
            rate.update_at(at(second * 1_000), start + Duration::from_secs(second));
        }
        assert!((rate.bytes_per_second() - 1_000.0).abs() < 1e-6, "{rate:?}");
        assert!((rate.mean_bytes_per_second() - 1_000.0).abs() < 1e-6, "{rate:?}");
        assert_eq!(rate.remaining().unwrap().as_secs_f64().round(), 5.0);
    }

    #[test]
    fn a_transfer_that_slows_down_forgets_how_fast_it_was() {
        let start = Instant::now();
        let mut rate = Rate::start_at(start);
        rate.update_at(at(8_000), start + Duration::from_secs(1));
        for second in 2..=30 {
            rate.update_at(at(8_000 + second), start + Duration::from_secs(second));
        }
        assert!(rate.bytes_per_second() < 10.0, "{rate:?}");
        assert!(rate.mean_bytes_per_second() > 200.0, "{rate:?}");
    }

    #[test]
    fn reports_at_the_same_time_divide_by_nothing() {
        let start = Instant::now();
        let mut rate = Rate::start_at(start);
        rate.update_at(at(1), start);
        rate.update_at(at(10_000), start);
        assert_eq!((rate.bytes_per_second(), rate.remaining()), (0.0, None));
    }
}
