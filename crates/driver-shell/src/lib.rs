//! Scripts of the exporter's host as methods of a device: for tasks without a driver.
//!
//! `shell` ([`ShellDriver`]) runs a script for each method that its configuration names. The output
//! is streamed while the script runs, the client gets the exit code, and no process outlives its
//! call.

mod config;
mod driver;
mod environment;
mod run;
mod text;

pub use config::{Method, ShellConfig};
pub use driver::ShellDriver;
