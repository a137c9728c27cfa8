//! The items that pass between the stages, and the blocking reader at the end of a queue.

use bytes::{Bytes, BytesMut};
use jumpstarter_driver_core::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// One piece of an image, in order.
#[derive(Debug)]
pub(crate) enum Item {
    /// Bytes.
    Data(Bytes),
    /// That many zeros, which need not be read.
    Zeros(u64),
    /// The image is complete. A queue that closes without it belongs to a cancelled or failed
    /// stage.
    End,
    /// The stage before failed.
    Failed(Error),
}

/// Zeros for a hole that must be read as bytes.
pub(crate) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The receiving end of a queue of items, for a thread.
pub(crate) struct ItemReader {
    queue: mpsc::Receiver<Item>,
    current: Bytes,
    zeros: u64,
    ended: bool,
    count: Counter,
}

/// How many bytes came through a queue.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ItemReader {
    pub(crate) fn new(queue: mpsc::Receiver<Item>) -> Self {
        Self { queue, current: Bytes::new(), zeros: 0, ended: false, count: Counter::default() }
    }

    /// The next piece, as it came; `None` at the end.
    pub(crate) fn piece(&mut self) -> Result<Option<Item>> {
        if !self.current.is_empty() {
            return Ok(Some(Item::Data(std::mem::take(&mut self.current))));
        }
        if self.zeros > 0 {
            return Ok(Some(Item::Zeros(std::mem::take(&mut self.zeros))));
        }
        if self.ended {
            return Ok(None);
        }
        match self.queue.blocking_recv() {
            Some(Item::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Item::Failed(error)) => Err(error),
            Some(item) => {
                if let Item::Data(bytes) = &item {
                    self.count.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                } else if let Item::Zeros(count) = &item {
                    self.count.0.fetch_add(*count, Ordering::Relaxed);
                }
                Ok(Some(item))
            }
            None => Err(Error::cancelled("the flash was given up")),
        }
    }

    /// The first bytes without taking them: `wanted`, or fewer if the image is shorter.
    pub(crate) fn peek(&mut self, wanted: usize) -> Result<&[u8]> {
        let mut start = BytesMut::new();
        while start.len() < wanted {
            match self.piece()? {
                Some(Item::Data(bytes)) if start.is_empty() && bytes.len() >= wanted => {
                    self.current = bytes;
                    return Ok(&self.current);
                }
                Some(Item::Data(bytes)) => start.extend_from_slice(&bytes),
                Some(Item::Zeros(count)) => {
                    let now = count.min((wanted - start.len()) as u64);
                    start.extend_from_slice(&ZEROS[..now as usize]);
                    self.zeros = count - now;
                }
                Some(Item::End | Item::Failed(_)) | None => break,
            }
        }
        self.current = start.freeze();
        Ok(&self.current)
    }

    /// Counts what was received, also from another thread.
    pub(crate) fn counter(&self) -> Counter {
        self.count.clone()
    }

    /// The next bytes, including zeros; `None` at the end.
    pub(crate) fn bytes(&mut self) -> Result<Option<Bytes>> {
        match self.piece()? {
            Some(Item::Data(bytes)) => Ok(Some(bytes)),
            Some(Item::Zeros(count)) => {
                let now = count.min(ZEROS.len() as u64);
                self.zeros = count - now;
                Ok(Some(Bytes::from_static(&ZEROS[..now as usize])))
            }
            Some(Item::End | Item::Failed(_)) | None => Ok(None),
        }
    }
}
