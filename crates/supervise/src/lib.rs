//! Child processes with an owner: ended in order, never left behind.
//!
//! ```no_run
//! use std::time::Duration;
//! use jumpstarter_supervise::{Command, Signal, StopPlan, run};
//!
//! # async fn example() -> Result<(), jumpstarter_supervise::SuperviseError> {
//! // A short tool: its output, or an error that quotes its stderr.
//! let command = Command::new("qemu-img").args(["info", "disk.qcow2"]);
//! let info = run(command, Duration::from_secs(10)).await?;
//!
//! // A long-lived one: a handle that can be cloned, awaited and stopped from anywhere.
//! let child = Command::new("qemu-system-x86_64").args(["-display", "none"]).spawn().await?;
//! let stopped = child.stop(StopPlan::new().signal(Signal::TERM, Duration::from_secs(5))).await?;
//! println!("{stopped}: {}", child.stderr_tail());
//! # let _ = info;
//! # Ok(())
//! # }
//! ```
//!
//! # How a child is owned
//!
//! ```text
//! this process ──control pipe──▶ guardian ──▶ the program ──▶ its descendants
//!              ◀──status pipe───
//! ```
//!
//! Every program runs under a guardian: a fork of this process that never execs, holds only its two
//! pipes open, leads a new session (so Ctrl-C does not reach it) and adopts every orphan below it.
//! The control pipe closes when the last [`Child`] is dropped, or when this process dies in any way
//! (`kill -9` too). The guardian then kills the program and all of its descendants, including those
//! that moved to another session, and exits. It also exits by itself once nothing is left to guard.
//! Because the guardian reaps, a signal can never reach a process id that was reused.
//!
//! In a process list a guardian is called `js-guardian`, with the command line of this process. It
//! shares this process's memory copy-on-write, so a parent that holds gigabytes pins the pages that
//! it changes later.
//!
//! The first process of a container inherits what a killed guardian leaves, and every process whose
//! parent outside has ended: [`reap_orphans`] reaps those, and leaves the guardians alone.
//!
//! # Programs in another container
//!
//! [`Command::through`] runs a program through a [`Launcher`], in the sidecar of an exporter's pod.
//! The program is then owned by a connection in the place of a guardian; see [`launcher`].
//!
//! # Other systems than Linux
//!
//! Elsewhere nothing can adopt orphans: the guardian kills the program's process group, as soon as
//! the program itself has ended. A descendant that left the group survives, and if someone kills
//! the guardian itself, the program survives the parent.

mod child;
mod command;
mod control;
mod environment;
mod error;
mod exit;
mod file_size;
mod guardian;
mod heeded;
mod launch;
pub mod launcher;
mod open_files;
mod orphans;
mod output;
mod run;
mod standard;
mod status;
mod stop;
mod stopped;
mod supervisor;

pub use child::Child;
pub use command::{Command, EachLine, Input, Sink};
pub use error::SuperviseError;
pub use exit::{Leftovers, at_exit};
pub use file_size::survive_file_size_limit;
pub use heeded::Heeded;
pub use launcher::Launcher;
pub use open_files::raise_open_files;
pub use orphans::reap_orphans;
pub use run::{Output, run, run_blocking, run_unchecked};
pub use rustix::process::Signal;
pub use standard::{StandardStream, was_closed};
pub use status::ExitStatus;
pub use stop::StopPlan;
pub use stopped::Stopped;
