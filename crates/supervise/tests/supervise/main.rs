//! Real processes: owned, stopped, read, and never left behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests are no tests to clippy")]

mod orphans;
mod output;
mod ownership;
mod processes;
mod resources;
mod running;
mod stopping;
mod surroundings;
