//! A controller and a router for tests, faithful to what upstream's answered when it was recorded
//! (`recorded.json`), and with switches for what goes wrong in a lab.
//!
//! The state is in memory. Nothing here uses this workspace's own wire code, so in a test two
//! implementations meet: this one is tonic on hyper.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use jumpstarter_test_controller::{Answer, Options, Rule, TestController};
//!
//! let controller = TestController::start(Options::default()).await?;
//! controller.add_exporter("e1", &[("board", "qemu")]);
//! controller.add_client("c1", &[]);
//! let file = controller.exporter_file("e1", "power: {type: …}");
//! // The next two status reports are lost.
//! let lost = Answer::Refuse(tonic::Code::Unavailable, "connection reset".to_owned());
//! controller.add_rule(Rule::new("ReportStatus", lost).times(2));
//! # Ok(())
//! # }
//! ```
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod proto;

mod auth;
mod client_service;
mod clock;
mod controller;
mod controller_service;
mod health;
mod lease;
mod names;
mod observe;
mod options;
mod router_service;
mod schedule;
mod selector;
mod server;
mod state;
mod switches;
mod token;

pub use auth::Kind;
pub use controller::{Server, TestController};
pub use options::Options;
pub use state::Policy;
pub use switches::{Answer, Report, Rule};
pub use token::{INTERNAL_ISSUER, Issuer};
pub use tonic::Code;

/// The descriptors of all messages, for tests that read them as JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
