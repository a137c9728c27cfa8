//! Scripts of the exporter's host as methods of a device: for what no driver exists for.
//!
//! `shell` ([`ShellDriver`]) runs a script for each method that its configuration names. The output
//! is streamed while the script runs, the exit code is the client's, and no process outlives its
//! call.

mod config;
mod driver;
mod environment;
mod run;
mod text;

pub use config::{Method, ShellConfig};
pub use driver::ShellDriver;
