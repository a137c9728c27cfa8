//! Checks whether an endpoint is reachable.

use std::fmt;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::Network;
use serde::Serialize;

/// How long [`check`] waits.
const DEADLINE: Duration = Duration::from_secs(15);

/// The result of a [`check`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Reachability {
    /// Whether a connection could be opened.
    pub reachable: bool,
    /// The time until the result, in milliseconds.
    pub milliseconds: f64,
    /// Why it is not reachable.
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
/// Pitfall: a proxy may accept on a service's behalf. QEMU's user network does for a guest that has
/// not booted. Only an answer ([`Conversation`](crate::Conversation)) shows that the service is
/// there.
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
