//! Whether an endpoint can be reached.

use std::fmt;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::Network;
use serde::Serialize;

/// How long [`check`] waits.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a [`check`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Reachability {
    /// Whether a connection could be opened.
    pub reachable: bool,
    /// How long that, or failing, took.
    pub milliseconds: f64,
    /// Why it cannot be reached.
    pub reason: Option<String>,
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            None => write!(f, "reachable ({:.1} ms)", self.milliseconds),
            Some(reason) => write!(f, "unreachable ({:.1} ms): {reason}", self.milliseconds),
        }
    }
}

/// Opens a connection and closes it again, waiting at most 15 seconds.
///
/// Pitfall: what stands in front of a service may accept on its behalf. QEMU's user network does
/// for a guest that has not booted. Only an answer ([`Conversation`](crate::Conversation)) tells
/// that the service is there.
pub async fn check(network: &dyn Network) -> Reachability {
    check_within(network, DEADLINE).await
}

/// As [`check`], waiting at most `deadline`.
pub async fn check_within(network: &dyn Network, deadline: Duration) -> Reachability {
    let start = Instant::now();
    let reason = match tokio::time::timeout(deadline, network.connect()).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.report()),
        Err(_) => Some(format!("no connection after {deadline:?}")),
    };
    Reachability {
        reachable: reason.is_none(),
        milliseconds: start.elapsed().as_secs_f64() * 1000.0,
        reason,
    }
}
