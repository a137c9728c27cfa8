//! Buffers that are reused: a fresh one costs page faults for every page of it.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// The size of every buffer, in bytes.
pub const BUFFER: usize = 512 * 1024;

/// Buffers that are unused at the moment.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// A buffer of [`BUFFER`] bytes with unspecified contents.
    pub fn take(&self) -> Buffer {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: used.unwrap_or_else(|| vec![0; BUFFER]), length: 0, pool: self.clone() }
    }
}

/// A buffer on loan, which goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl Buffer {
    /// The whole buffer, to be filled.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `length` bytes, to be passed on; the buffer goes back to the pool with the last
    /// clone.
    pub fn freeze(mut self, length: usize) -> Bytes {
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
