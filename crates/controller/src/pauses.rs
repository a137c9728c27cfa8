//! The time between two attempts.

use std::time::Duration;

/// Growing pauses between attempts, each with a random part so that many clients spread.
#[derive(Clone, Debug)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// Pauses that double, from `first` up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Begins anew, after a success.
    pub fn begin_anew(&mut self) {
        self.next = self.first;
    }

    /// The next pause: between half of it and all of it.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        let pause = self.next_pause();
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut pauses = Pauses::new(first, longest);
        for most in [100, 200, 350, 350] {
            let pause = pauses.next_pause();
            let most = Duration::from_millis(most);
            assert!(most / 2 <= pause && pause <= most, "{pause:?} of {most:?}");
        }
        pauses.begin_anew();
        assert!(pauses.next_pause() <= first);
    }
}
