//! Gives up slow servers: incoming data must make progress.

use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};

/// The least bytes a second, over the time for which nothing at all may come.
const MIN_RATE: f64 = 128.0;
/// After so many pieces they have to hold [`MIN_PIECE`] bytes on average: each costs much more than
/// its bytes.
const PIECES: u64 = 64 * 1024;
const MIN_PIECE: u64 = 16;

/// Counts what came while somebody waited for it.
#[derive(Debug)]
pub struct Pace {
    limit: Duration,
    waited: Duration,
    bytes_meanwhile: u64,
    pieces: u64,
    bytes: u64,
}

impl Pace {
    /// `limit` is how long nothing may come.
    pub fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, bytes_meanwhile: 0, pieces: 0, bytes: 0 }
    }

    /// Counts a piece for which somebody waited so long.
    ///
    /// # Errors
    /// `DeadlineExceeded`: too little comes. `DataLoss`: it comes in crumbs.
    pub fn add(&mut self, bytes: usize, waited: Duration) -> Result<()> {
        self.pieces += 1;
        self.bytes += bytes as u64;
        if self.pieces >= PIECES && self.bytes / self.pieces < MIN_PIECE {
            let message =
                format!("it comes in {} pieces of {} bytes", self.pieces, self.bytes / self.pieces);
            return Err(Error::data_loss(message).with_hint("have the server send larger pieces"));
        }
        self.waited += waited;
        self.bytes_meanwhile += bytes as u64;
        if self.waited < self.limit {
            return Ok(());
        }
        let (seconds, bytes) = (self.waited.as_secs_f64(), self.bytes_meanwhile);
        if (bytes as f64) < MIN_RATE * self.limit.as_secs_f64() {
            return Err(Error::deadline_exceeded(format!(
                "no more than {bytes} bytes came in {seconds:.0} s"
            )));
        }
        (self.waited, self.bytes_meanwhile) = (Duration::ZERO, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::ErrorKind;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_drip_is_given_up_and_a_slow_line_is_not() {
        let mut pace = Pace::new(LIMIT);
        let dripped = (0..100).find_map(|_| pace.add(100, Duration::from_secs(1)).err()).unwrap();
        assert_eq!(dripped.kind(), ErrorKind::DeadlineExceeded);
        assert!(dripped.to_string().contains("1000 bytes came in 10 s"), "{dripped}");
        let mut pace = Pace::new(LIMIT);
        (0..1000).for_each(|_| pace.add(200, Duration::from_secs(1)).unwrap());
    }

    #[test]
    fn who_is_not_waited_for_is_not_slow() {
        let mut pace = Pace::new(LIMIT);
        (0..1000).for_each(|_| pace.add(100, Duration::from_micros(1)).unwrap());
    }

    #[test]
    fn crumbs_are_refused_however_fast_they_come() {
        let mut pace = Pace::new(LIMIT);
        let crumbs = (0..PIECES).find_map(|_| pace.add(1, Duration::ZERO).err()).unwrap();
        assert_eq!(crumbs.kind(), ErrorKind::DataLoss);
        let mut pace = Pace::new(LIMIT);
        pace.add(10 << 20, Duration::ZERO).unwrap();
        (0..PIECES).for_each(|_| pace.add(1, Duration::ZERO).unwrap());
    }
}
