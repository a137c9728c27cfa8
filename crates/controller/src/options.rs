//! How a controller is reached.

use std::time::Duration;

use crate::{Endpoint, Identity, Trust};

/// Pings on an HTTP/2 connection, which find a dead path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// The time between two pings.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Those of Jumpstarter's other implementations: each 20 s, within 180 s.
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(180) }
    }
}

/// How a controller is reached, and by whom.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    pub(crate) keepalive: Keepalive,
    pub(crate) call_limit: Duration,
}

impl ControllerOptions {
    /// Reaches the controller at `endpoint`, and trusts the system's authorities.
    pub fn new(endpoint: Endpoint, identity: Identity) -> Self {
        Self {
            endpoint,
            identity,
            trust: Trust::default(),
            keepalive: Keepalive::default(),
            call_limit: Duration::from_secs(30),
        }
    }

    /// Trusts these certificates, of the controller and of its router.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the pings.
    #[must_use]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets the keep-alive of gRPC's channel arguments, as an exporter's or a client's file has
    /// them. Other arguments change nothing here.
    #[must_use]
    pub fn channel_arguments<'a>(
        mut self,
        arguments: impl IntoIterator<Item = (&'a str, i64)>,
    ) -> Self {
        let milliseconds = |value: i64| {
            u64::try_from(value).ok().filter(|value| *value > 0).map(Duration::from_millis)
        };
        for (name, value) in arguments {
            let place = match name {
                "grpc.keepalive_time_ms" => &mut self.keepalive.interval,
                "grpc.keepalive_timeout_ms" => &mut self.keepalive.timeout,
                _ => continue,
            };
            *place = milliseconds(value).unwrap_or(*place);
        }
        self
    }

    /// How long a call may take, with its connection; default: 30 s.
    #[must_use]
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }
}
