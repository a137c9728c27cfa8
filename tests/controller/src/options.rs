//! How a test controller is set up.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::proto::v1::TelemetryEndpoint;
use crate::schedule::RECHECK;

/// The set-up of a controller.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its objects are: `lab`.
    pub namespace: String,
    /// Where the controller listens; a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// Where the router listens; a free port of 127.0.0.1.
    pub router_listen: SocketAddr,
    /// The host of the endpoints that the controller gives out: `localhost`.
    pub host: String,
    /// How long its tokens are valid: 365 days.
    pub token_life: Duration,
    /// When a pending lease is looked at again: after the first time, which doubles up to the
    /// second. One second for both is a controller of release 0.9.
    pub recheck: (Duration, Duration),
    /// How long the scheduler hesitates: not at all. The real one takes 10 to 25 ms.
    pub assignment_delay: Duration,
    /// Labels of exporters that only those see who ask for them.
    pub hidden_labels: BTreeSet<String>,
    /// Labels that should not be used any more, with a text for their users.
    pub deprecated_labels: BTreeMap<String, String>,
    /// What GetServiceEndpoints answers.
    pub telemetry: Vec<TelemetryEndpoint>,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            namespace: "lab".to_owned(),
            listen: any,
            router_listen: any,
            host: "localhost".to_owned(),
            token_life: Duration::from_secs(365 * 24 * 60 * 60),
            recheck: RECHECK,
            assignment_delay: Duration::ZERO,
            hidden_labels: BTreeSet::new(),
            deprecated_labels: BTreeMap::new(),
            telemetry: Vec::new(),
        }
    }
}
