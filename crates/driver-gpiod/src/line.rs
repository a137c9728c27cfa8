//! A line that a driver holds.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gpiocdev::Request;
use gpiocdev::line::Value;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::OwnedMutexGuard;

use crate::chip;

/// What a driver does with a line; each call may block.
pub(crate) trait Line: Send + Sync + 'static {
    /// Whether it is active.
    fn get(&self) -> Result<bool>;
    /// Makes an output active, or inactive.
    fn set(&self, is_active: bool) -> Result<()>;
}

impl Line for Request {
    fn get(&self) -> Result<bool> {
        Ok(self.lone_value().map_err(chip::failed)? == Value::Active)
    }

    fn set(&self, is_active: bool) -> Result<()> {
        self.set_lone_value(is_active.into()).map_err(chip::failed)
    }
}

/// A line until it is released. Each use needs the turn, so that uses follow one another.
pub(crate) struct Held {
    /// What it is, for people: "line 3 (RELAY) of /dev/gpiochip0".
    name: String,
    line: Mutex<Option<Arc<dyn Line>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Permits the use of a line. A use that was cancelled keeps it to its end.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.name).finish()
    }
}

impl Held {
    pub(crate) fn new(name: String, line: Arc<dyn Line>) -> Self {
        Self { name, line: Mutex::new(Some(line)), turn: Arc::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn turn(&self) -> Turn {
        self.turn.clone().lock_owned().await
    }

    /// Uses the line on a thread that may block.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&dyn Line) -> Result<T> + Send + 'static,
    ) -> Result<(Turn, T)> {
        let line = self.slot().clone().ok_or_else(closed)?;
        blocking(move || {
            let done = work(&*line);
            // Before the turn ends: who closes the driver has the turn next.
            drop(line);
            done.map(|value| (turn, value))
        })
        .await
    }

    pub(crate) async fn read(&self) -> Result<bool> {
        let read = self.with(self.turn().await, |line| line.get()).await;
        let (_, is_active) = read.with_context(|| format!("reading {}", self.name))?;
        Ok(is_active)
    }

    /// Gives the line back to the chip.
    pub(crate) async fn release(&self) {
        let _turn = self.turn().await;
        self.slot().take();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.slot().is_none()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Line>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn closed() -> Error {
    Error::failed_precondition("the driver is closed")
}
