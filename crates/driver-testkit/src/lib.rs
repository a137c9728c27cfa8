//! The conformance suite that every driver runs, and what tests of drivers share.
//!
//! One line in a driver's `tests/conformance.rs` runs every case of its interfaces twice: on the
//! driver itself, and through the typed proxies of a remote caller.
//!
//! ```
//! # mod relay { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/example/relay.in")); }
//! # use relay::*;
//! # use jumpstarter_driver_testkit::conformance;
//! conformance!(RelayConfig, { "port": fake_board(), "channel": 1 }, [power]);
//! # fn main() {}
//! ```
//!
//! See [`conformance!`] for the details. The duties that the cases enforce are listed in
//! `docs/driver-duties.md`. A tool that needs the verdicts as values calls [`run_case`].

// The macros' expansions work in this crate, too.
extern crate self as jumpstarter_driver_testkit;

mod case;
mod cases;
mod conformance;
pub mod damage;
mod duty;
mod fixture;
#[cfg(feature = "fuse")]
mod fuse;
pub mod guest;
mod idle;
pub mod image;
mod instance;
mod isolated;
mod leftovers;
mod medium;
pub mod peer;
pub mod pico;
mod port;
pub mod processes;
mod run;
#[cfg(feature = "serial")]
pub mod serial;
#[cfg(feature = "served")]
mod served;
mod skip;
mod wait;

pub use case::{Case, Outcome};
pub use cases::{all, of};
pub use fixture::{ChildFixture, Fixture};
#[cfg(feature = "fuse")]
pub use fuse::FuseMount;
pub use instance::{Instance, Mode};
pub use isolated::isolated;
pub use port::reserve_port;
pub use run::{Failure, run_case};
#[cfg(feature = "served")]
pub use served::{Served, open, served};
pub use skip::skip;
pub use wait::{blocking_eventually, eventually, eventually_some};

/// The names that the macros' expansions use. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::duty::can_be_waived;
    pub use crate::run::test;
    pub use serde_json::json;
    pub use std::time::Duration;
}
