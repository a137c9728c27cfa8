//! An exporter in a separate process, and a client for it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "these are helpers of tests")]

pub mod lab;
pub mod process;

pub use jumpstarter_test_support::{Client, DEADLINE, connect, frame, http2, transport};
