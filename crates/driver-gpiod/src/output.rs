//! Outputs, and switches.

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use tokio::time::sleep;

use crate::chip::{self, Wiring};
use crate::interface::{GpioPin, PinState};
use crate::line::Held;

/// How often a line is read until it shows what it was set to, and the pause between: a line that a
/// resistor pulls takes its time.
const READS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// A line that clients drive. It is read back after each change.
#[derive(Debug)]
pub struct GpioOutput {
    line: Held,
    /// Whether the chip reads outputs: some cannot.
    is_readable: bool,
    close: AtClose,
    client: Option<&'static str>,
}

impl GpioOutput {
    pub(crate) async fn open(
        wiring: Wiring,
        close: AtClose,
        client: Option<&'static str>,
        path: &str,
    ) -> Result<Self> {
        let (name, request) = chip::request(wiring, path).await?;
        Self::of_line(Held::new(name, request), close, client).await
    }

    async fn of_line(line: Held, close: AtClose, client: Option<&'static str>) -> Result<Self> {
        let read = line.read().await;
        if let Err(error) = &read {
            tracing::warn!("{}: its changes are not checked: {error}", line.name());
        }
        Ok(Self { line, is_readable: read.is_ok(), close, client })
    }

    async fn switch(&self, is_active: bool) -> Result<()> {
        let name = self.line.name();
        let wanted = PinState::new(is_active);
        let doing = || format!("making {name} {wanted}");
        let turn = self.line.turn().await;
        let set = self.line.with(turn, move |line| line.set(is_active)).await;
        let (mut turn, ()) = set.with_context(doing)?;
        for _ in 0..READS {
            let seen;
            (turn, seen) = match self.is_readable {
                true => self.line.with(turn, |line| line.get()).await.with_context(doing)?,
                false => (turn, is_active),
            };
            if seen == is_active {
                tracing::info!("{name} is {wanted}");
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        let message =
            format!("{name} was made {wanted} and still reads {}", PinState::new(!is_active));
        Err(Error::failed_precondition(message)
            .with_hint("something else drives the line, or nothing pulls it to that level"))
    }
}

#[async_trait]
impl Driver for GpioOutput {
    interfaces!(Power, GpioPin);

    fn client(&self) -> Option<&str> {
        self.client
    }

    async fn reset(&self) -> Result<()> {
        self.close.apply(self).await
    }

    async fn close(&self) -> Result<()> {
        let applied = match self.line.is_released() {
            true => Ok(()),
            false => self.close.apply(self).await,
        };
        self.line.release().await;
        applied
    }
}

#[async_trait]
impl Power for GpioOutput {
    async fn on(&self) -> Result<()> {
        self.switch(true).await
    }

    async fn off(&self) -> Result<()> {
        self.switch(false).await
    }
}

#[async_trait]
impl GpioPin for GpioOutput {
    async fn read_pin(&self) -> Result<PinState> {
        Ok(PinState::new(self.line.read().await?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::line::Line;

    /// A line that does not do what it should.
    #[derive(Default)]
    struct Fake {
        level: AtomicBool,
        /// It keeps its level.
        is_held: AtomicBool,
        is_unreadable: AtomicBool,
        /// So many reads show the old level.
        slow_reads: AtomicU32,
        sets: Mutex<Vec<bool>>,
    }

    impl Line for Fake {
        fn get(&self) -> Result<bool> {
            if self.is_unreadable.load(SeqCst) {
                return Err(Error::internal("input/output error"));
            }
            let level = self.level.load(SeqCst);
            let less = |left: u32| left.checked_sub(1);
            let is_slow = self.slow_reads.fetch_update(SeqCst, SeqCst, less).is_ok();
            Ok(level != is_slow)
        }

        fn set(&self, is_active: bool) -> Result<()> {
            self.sets.lock().unwrap().push(is_active);
            if !self.is_held.load(SeqCst) {
                self.level.store(is_active, SeqCst);
            }
            Ok(())
        }
    }

    async fn output(fake: &Arc<Fake>, close: AtClose) -> GpioOutput {
        let line = Held::new("line 3 of /dev/gpiochip0".to_owned(), fake.clone());
        GpioOutput::of_line(line, close, None).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_something_else_holds_is_an_error() {
        let fake = Arc::new(Fake::default());
        let output = output(&fake, AtClose::Keep).await;
        fake.is_held.store(true, SeqCst);
        let error = output.on().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let report = error.report();
        let expected = "line 3 of /dev/gpiochip0 was made active and still reads inactive";
        assert!(report.contains(expected) && report.contains("something else drives"), "{report}");
        output.off().await.unwrap();
        fake.is_held.store(false, SeqCst);
        output.on().await.unwrap();
        assert_eq!(output.read_pin().await.unwrap(), PinState::Active);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_may_take_its_time() {
        let fake = Arc::new(Fake::default());
        let output = output(&fake, AtClose::Keep).await;
        fake.slow_reads.store(READS - 1, SeqCst);
        output.on().await.unwrap();
        assert_eq!(fake.slow_reads.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chip_that_cannot_read_outputs_is_believed() {
        let fake = Arc::new(Fake::default());
        fake.is_unreadable.store(true, SeqCst);
        let output = output(&fake, AtClose::Keep).await;
        output.on().await.unwrap();
        let report = output.read_pin().await.unwrap_err().report();
        assert!(report.contains("reading line 3 of /dev/gpiochip0"), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_cannot_be_read_any_more_is_an_error() {
        let fake = Arc::new(Fake::default());
        let output = output(&fake, AtClose::Keep).await;
        fake.is_unreadable.store(true, SeqCst);
        let report = output.on().await.unwrap_err().report();
        assert!(report.contains("making line 3 of /dev/gpiochip0 active"), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_what_is_configured_once() {
        let fake = Arc::new(Fake::default());
        for (close, sets) in [(AtClose::Keep, vec![true]), (AtClose::Off, vec![true, false])] {
            fake.sets.lock().unwrap().clear();
            let output = output(&fake, close).await;
            output.on().await.unwrap();
            output.close().await.unwrap();
            output.close().await.unwrap();
            assert_eq!(*fake.sets.lock().unwrap(), sets, "{close:?}");
            assert_eq!(output.on().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_releases_a_line_that_cannot_be_switched_off() {
        let fake = Arc::new(Fake::default());
        let output = output(&fake, AtClose::Off).await;
        output.on().await.unwrap();
        fake.is_held.store(true, SeqCst);
        let report = output.close().await.unwrap_err().report();
        assert!(report.contains("switching off at the end"), "{report}");
        assert_eq!(Arc::strong_count(&fake), 1);
    }
}
