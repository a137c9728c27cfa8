//! What an exporter and a client share when they join a Jumpstarter controller.
//!
//! - [`Controller`]: calls with this exporter's or client's identity. It holds one connection and
//!   opens another one when that is lost.
//! - [`Tunnel`]: a byte stream through the router, on which the two ends speak the exporter's
//!   protocol.
//! - [`Refusal`]: the answers that have to be recognised by their texts.
//! - [`Pauses`]: the time between two attempts.
//! - [`Probe`]: the way to a controller, tried step by step.
//!
//! ```no_run
//! use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
//! use jumpstarter_driver_core::{Result, Secret};
//! use jumpstarter_protocol::{rpc, v1};
//!
//! # async fn example(token: Secret) -> Result<()> {
//! let identity = Identity::exporter("lab", "board-1", token);
//! let options = ControllerOptions::new("controller.example:8082".parse()?, identity);
//! let controller = Controller::new(options.trust(Trust::System))?;
//! let request = v1::ReleaseLeaseRequest { name: "a-lease".to_owned() };
//! controller.call::<rpc::controller::ReleaseLease>(&request).await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod controller;
mod driven;
mod endpoint;
mod gathered;
mod identity;
mod options;
mod pauses;
mod probe;
mod refusal;
mod trust;
mod tunnel;

pub use controller::{Controller, Followed};
pub use endpoint::Endpoint;
pub use identity::{Identity, Kind};
pub use options::{ControllerOptions, Keepalive};
pub use pauses::Pauses;
pub use probe::{Probe, compare_clocks};
pub use refusal::Refusal;
pub use trust::Trust;
pub use tunnel::Tunnel;
