//! Files in the memory of this process.

use jumpstarter_driver_core::Result;
use opendal_core::Operator;
use opendal_core::services::Memory;

use super::Services;
use super::budget::Budget;
use super::error::mapped;

impl Services {
    /// Files in the memory of this process, at most `limit` bytes; they end with the storage.
    ///
    /// # Errors
    /// None that is known.
    pub fn memory(root: &str, limit: u64) -> Result<Self> {
        let operator = Operator::new(Memory::default().root(root)).map_err(mapped)?;
        Ok(Self { operator, budget: Some(Budget::new(limit)) })
    }
}
