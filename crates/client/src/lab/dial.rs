//! The way to the exporter of a lease: a dial for each connection, and its tunnel.

use std::time::Duration;

use jumpstarter_controller::{Pauses, Refusal, Tunnel};
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret};
use jumpstarter_protocol::rpc::controller::Dial;
use jumpstarter_protocol::v1::DialRequest;
use tokio::time::Instant;

use super::Lab;

/// An exporter that takes longer to prepare itself may have given the lease back.
const PREPARES_SOON: Duration = Duration::from_secs(1);

/// How long a way to an exporter is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialLimits {
    /// One dial, while the exporter prepares itself.
    pub dial: Duration,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self { dial: Duration::from_secs(60) }
    }
}

impl DialLimits {
    /// Limits one dial.
    pub fn within(dial: Duration) -> Self {
        Self { dial }
    }
}

impl Lab {
    /// Opens a tunnel to the exporter of a lease. Waits while the exporter is not ready, and while
    /// the controller is away.
    pub(super) async fn dial(&self, lease: &str, exporter: &str) -> Result<Tunnel> {
        let end = Instant::now() + self.limits.dial;
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(2));
        let request = DialRequest { lease_name: lease.to_owned() };
        loop {
            let dialled = async {
                let answer = self.controller.call::<Dial>(&request).await?;
                let token = Secret::new(answer.router_token);
                self.controller.tunnel(&answer.router_endpoint, &token).await
            };
            let error = match dialled.await {
                Ok(tunnel) => return Ok(tunnel),
                Err(error) => error,
            };
            let refusal = Refusal::of(&error);
            let is_passing = refusal == Some(Refusal::NotReady)
                || error.kind() == ErrorKind::Unavailable
                || error.kind() == ErrorKind::ResourceExhausted;
            if !is_passing || Instant::now() >= end {
                return Err(match refusal {
                    Some(Refusal::Denied) => error.with_hint(
                        "the lease may have been given to another client, or the token may be another's",
                    ),
                    _ => error,
                })
                .with_context(|| format!("reaching the exporter {exporter}"));
            }
            pauses.wait().await;
        }
    }

    /// Waits until the exporter of a new lease prepares itself: a dial that comes earlier costs
    /// half a second. An exporter whose state is not known is dialled.
    ///
    /// # Errors
    /// `FailedPrecondition` for an exporter that cannot be used, or that has given the lease back.
    pub(super) async fn wait_for_preparation(&self, lease: &str, exporter: &str) -> Result<()> {
        let begun = Instant::now();
        let end = begun + self.limits.dial;
        let mut pauses = Pauses::new(Duration::from_millis(10), Duration::from_millis(500));
        loop {
            let known = match self.exporter(exporter, false).await {
                Ok(known) => known,
                // The dial shows the reason.
                Err(_) => return Ok(()),
            };
            match known.status.as_str() {
                "AVAILABLE" if Instant::now() < end => {
                    pauses.wait().await;
                    // It may have prepared itself in vain, and have given the lease back.
                    if begun.elapsed() > PREPARES_SOON
                        && self.lease_named(lease).await.is_ok_and(|found| found.has_ended())
                    {
                        return Err(unusable(exporter, &format!("the lease {lease} is over")));
                    }
                }
                "OFFLINE" => return Err(unusable(exporter, "it is offline")),
                "BEFORE_LEASE_HOOK_FAILED" | "AFTER_LEASE_HOOK_FAILED" => {
                    return Err(unusable(exporter, &known.status_message));
                }
                _ => return Ok(()),
            }
        }
    }
}

fn unusable(exporter: &str, why: &str) -> Error {
    Error::failed_precondition(format!("the exporter {exporter} is not usable: {why}"))
        .with_hint("try again, or ask who runs the exporter")
}
