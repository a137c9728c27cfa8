//! How much a service in memory may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;
use jumpstarter_driver_core::{Error, Result};
use opendal_core::Operator;

use super::error::mapped;

/// The most bytes that a service in memory holds, and those that are on their way into it.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    arriving: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, arriving: AtomicU64::new(0) })
    }

    /// Begins a file.
    pub(crate) async fn begin(self: Arc<Self>, operator: &Operator) -> Result<Taken> {
        let mut entries = operator.lister_with("/").recursive(true).await.map_err(mapped)?;
        let mut stored = 0;
        while let Some(entry) = entries.try_next().await.map_err(mapped)? {
            stored += entry.metadata().content_length();
        }
        Ok(Taken { budget: self, stored, bytes: 0 })
    }
}

/// What one file takes while it arrives.
pub(crate) struct Taken {
    budget: Arc<Budget>,
    /// What was there when the file began.
    stored: u64,
    bytes: u64,
}

impl Taken {
    /// Takes more.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        let arriving = self.budget.arriving.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.stored.saturating_add(arriving) <= self.budget.limit {
            return Ok(());
        }
        let limit = self.budget.limit / 1024 / 1024;
        Err(Error::resource_exhausted(format!("the storage in memory holds at most {limit} MiB"))
            .with_hint("remove files, or store them with the scheme `fs`"))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.arriving.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
