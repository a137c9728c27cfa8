//! The edges of a line: counted by one reader, and awaited by any number of callers.

use std::sync::{Mutex, PoisonError};

use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::interface::GpioEdge;

/// How many edges there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    rising: u64,
    falling: u64,
}

impl Count {
    fn of(self, edge: GpioEdge) -> u64 {
        match edge {
            GpioEdge::Rising => self.rising,
            GpioEdge::Falling => self.falling,
        }
    }
}

/// The side that counts. Dropping it ends the waits.
#[derive(Debug)]
pub(crate) struct Counter(watch::Sender<(Count, Option<Error>)>);

impl Counter {
    pub(crate) fn add(&self, edge: GpioEdge) {
        self.0.send_modify(|(count, _)| match edge {
            GpioEdge::Rising => count.rising += 1,
            GpioEdge::Falling => count.falling += 1,
        });
    }

    /// No edge can be seen any more.
    pub(crate) fn fail(self, error: Error) {
        self.0.send_modify(|(_, failure)| *failure = Some(error));
    }
}

/// The side that waits.
#[derive(Debug)]
pub(crate) struct Edges {
    count: watch::Receiver<(Count, Option<Error>)>,
    /// Those that a wait has seen.
    seen: Mutex<Count>,
}

impl Edges {
    pub(crate) fn new() -> (Counter, Self) {
        let (sender, count) = watch::channel((Count::default(), None));
        (Counter(sender), Self { count, seen: Mutex::default() })
    }

    /// The edges until now.
    pub(crate) fn now(&self) -> Count {
        self.count.borrow().0
    }

    /// Those that no wait has seen count for the next one.
    pub(crate) fn seen(&self) -> Count {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the edges until now.
    pub(crate) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.now();
    }

    /// Waits for an edge that `before` does not have.
    pub(crate) async fn wait(
        &self,
        edge: GpioEdge,
        before: Count,
        timeout: Option<Span>,
    ) -> Result<()> {
        let mut count = self.count.clone();
        let next =
            count.wait_for(|(now, failure)| now.of(edge) > before.of(edge) || failure.is_some());
        let found = match timeout {
            None => next.await,
            Some(timeout) => {
                let until = deadline_after(timeout.as_duration());
                timeout_at(until, next).await.map_err(|_| {
                    Error::deadline_exceeded(format!("no {edge} edge within {timeout}"))
                })?
            }
        };
        let outcome = match found {
            Ok(found) if found.0.of(edge) > before.of(edge) => Ok(()),
            Ok(found) => Err(found.1.as_ref().map_or_else(closing, Error::again)),
            Err(_) => Err(closing()),
        };
        outcome.inspect(|()| self.forget())
    }
}

fn closing() -> Error {
    Error::unavailable("the driver was closed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Option<Span> = Some(Span::milliseconds(100));

    #[tokio::test(start_paused = true)]
    async fn an_edge_counts_once_and_also_before_the_wait() {
        let (counter, edges) = Edges::new();
        counter.add(GpioEdge::Rising);
        counter.add(GpioEdge::Falling);
        edges.wait(GpioEdge::Rising, edges.seen(), SOON).await.unwrap();
        for edge in [GpioEdge::Rising, GpioEdge::Falling] {
            let late = edges.wait(edge, edges.seen(), SOON).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
            assert_eq!(late.to_string(), format!("no {edge} edge within 100 ms"));
        }
        let wait = edges.wait(GpioEdge::Falling, edges.seen(), None);
        let both = tokio::join!(wait, edges.wait(GpioEdge::Falling, edges.seen(), SOON), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            counter.add(GpioEdge::Rising);
            counter.add(GpioEdge::Falling);
        });
        both.0.unwrap();
        both.1.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_line() {
        let (counter, edges) = Edges::new();
        let wait = edges.wait(GpioEdge::Rising, edges.seen(), None);
        let (lost, ()) =
            tokio::join!(wait, async { counter.fail(Error::unavailable("unplugged")) });
        assert_eq!(lost.unwrap_err().to_string(), "unplugged");
        let again = edges.wait(GpioEdge::Rising, edges.seen(), None).await.unwrap_err();
        assert_eq!(again.to_string(), "unplugged");

        let (counter, edges) = Edges::new();
        drop(counter);
        let closed = edges.wait(GpioEdge::Rising, edges.seen(), None).await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Unavailable);
    }
}
