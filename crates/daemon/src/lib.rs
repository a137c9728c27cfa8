//! The life of an exporter around `jumpstarter-exporter`: hooks and leases, signals, the log,
//! metrics, and systemd.
//!
//! [`run`] and [`shell()`] are the commands `jmp run` and `jmp shell`: they read an exporter file,
//! open the device, serve it and close it. [`Log`] writes their records to standard error.

mod hooks;
mod join;
mod lease;
mod logs;
mod metrics;
mod notify;
mod private_socket;
mod programs;
mod reload;
mod run;
mod shell;
mod sidecar;
mod signals;

pub use join::controller_of;
pub use logs::{Log, LogFormat};
pub use programs::{be_j, search_path};
pub use run::{Ready, RunOptions, run};
pub use shell::{Served, shell};
