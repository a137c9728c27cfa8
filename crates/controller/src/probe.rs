//! The way to a controller, tried step by step.

use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::{
    Error, ErrorKind, Result, ResultExt, Secret, parse_http_date, rfc3339,
};
use jumpstarter_protocol::client::v1::ListExportersRequest;
use jumpstarter_protocol::v1::ReleaseLeaseRequest;
use jumpstarter_protocol::{Rpc, encode, rpc};
use tokio::io::AsyncReadExt;

use crate::connection::{Connection, secure};
use crate::controller::lost;
use crate::{Controller, Endpoint, Kind, Refusal, Trust, Tunnel};

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The clocks of an exporter, a client and a controller may differ by so much.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// A lease that does not exist.
const NO_LEASE: &str = "jmp-doctor-asks-for-no-lease";

/// What to do about a server that is none.
const NOT_A_CONTROLLER: &str =
    "check that `endpoint` is the controller's gRPC port, and not its router's";

/// The health of a gRPC server.
#[derive(Clone, Copy, Debug)]
struct Health;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Rpc for Health {
    const PATH: &'static str = "/grpc.health.v1.Health/Check";
    type Request = ();
    type Answer = HealthAnswer;
}

/// Tries the way to a controller, or to its router, one step at a time: each returns what it saw. A
/// step after one that failed fails, too.
#[derive(Clone, Debug)]
pub struct Probe {
    controller: Controller,
    endpoint: Endpoint,
}

impl Controller {
    /// The way to this controller.
    pub fn probe(&self) -> Probe {
        self.probe_at(self.endpoint().clone())
    }

    /// The way to another server that has the same trust, as a router.
    pub fn probe_at(&self, endpoint: Endpoint) -> Probe {
        Probe { controller: self.clone(), endpoint }
    }
}

impl Probe {
    /// Looks the name up.
    ///
    /// # Errors
    /// `NotFound` for a name without an address.
    pub async fn name(&self) -> Result<String> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        let doing = || format!("looking up {host}");
        let hint = "check the name in `endpoint`, and this machine's resolver";
        let found = within(jumpstarter_transfer::addresses(host, port)).await;
        let found = found.with_context(doing).map_err(|error| error.with_hint(hint))?;
        let Some(found) = found else { return Ok("the proxy looks the name up".to_owned()) };
        if found.is_empty() {
            return Err(Error::not_found(format!("{host} has no address")).with_hint(hint));
        }
        let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
        Ok(format!("{host} is {}", found.join(", ")))
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of the system and of a proxy.
    pub async fn tcp(&self) -> Result<String> {
        let connecting = jumpstarter_transfer::connect(self.endpoint.host(), self.endpoint.port());
        within(connecting).await.map(drop).map_err(|error| match error.hint() {
            Some(_) => error,
            None => error.with_hint(
                "check the port in `endpoint`, that the server runs, and the firewalls in between",
            ),
        })?;
        Ok(format!("{} accepts connections", self.endpoint))
    }

    /// Makes TLS, and checks the certificate.
    ///
    /// # Errors
    /// `Unavailable` for a certificate that is not trusted, and for what is not TLS.
    pub async fn tls(&self) -> Result<String> {
        let options = self.controller.options();
        within(secure(&self.endpoint, &options.trust, self.controller.tls())).await?;
        Ok(match &options.trust {
            Trust::Any => "any certificate is accepted: `tls.insecure` is set".to_owned(),
            Trust::Authorities(_) => "the certificate is trusted by `tls.ca`".to_owned(),
            Trust::System => "the certificate is trusted by this system's authorities".to_owned(),
        })
    }

    /// Asks the controller whether it serves; the time on its clock, if it says it.
    ///
    /// # Errors
    /// `Unavailable` for a server that does not serve.
    pub async fn health(&self) -> Result<(String, Option<SystemTime>)> {
        let asking = async {
            let connection = self.connection().await?;
            let metadata = self.controller.identity().metadata()?;
            let started = connection.caller().start::<Health>(metadata, Some(encode(&())?)).await;
            let (_sending, mut messages) = started.map_err(lost)?;
            let answer = futures_util::StreamExt::next(&mut messages).await;
            let answer = answer.transpose().map_err(lost)?;
            Ok((answer, messages.headers().get("date").cloned()))
        };
        let asked = within(asking).await;
        let (answer, date) = match asked {
            Ok(asked) => asked,
            // An older one, or one behind something that passes on only its services.
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                return Ok(("it does not say whether it serves".to_owned(), None));
            }
            Err(error) => {
                let doing = format!("asking {} whether it serves", self.endpoint);
                return Err(error.context(doing).with_hint(NOT_A_CONTROLLER));
            }
        };
        let date = date.as_ref().and_then(|date| parse_http_date(date.to_str().ok()?));
        match answer.map(|answer| answer.status) {
            Some(1) => Ok((format!("{} serves", self.endpoint), date)),
            _ => Err(Error::unavailable(format!("{} does not serve now", self.endpoint))
                .with_hint("ask who runs the lab")),
        }
    }

    /// Asks for something harmless with the token.
    ///
    /// # Errors
    /// The controller's, with what to do.
    pub async fn identity(&self) -> Result<String> {
        let identity = self.controller.identity();
        let (kind, name, namespace) = (identity.kind(), identity.name(), identity.namespace());
        let asked = match kind {
            // Exporters have no call that only reads.
            Kind::Exporter => {
                let request = ReleaseLeaseRequest { name: NO_LEASE.to_owned() };
                let asked = self.controller.call::<rpc::controller::ReleaseLease>(&request).await;
                asked.map(drop)
            }
            Kind::Client => {
                let parent = format!("namespaces/{namespace}");
                let request = ListExportersRequest { parent, page_size: 1, ..Default::default() };
                self.controller.call::<rpc::client::ListExporters>(&request).await.map(drop)
            }
        };
        let accepted = format!("the controller accepts the {kind} {namespace}/{name}");
        let Err(error) = asked else { return Ok(accepted) };
        match Refusal::of(&error) {
            Some(Refusal::Missing) if format!("{error:#}").contains(NO_LEASE) => Ok(accepted),
            Some(Refusal::Missing) => Err(error.with_hint(format!(
                "the controller has no {kind} {namespace}/{name}: check `metadata`, or ask who runs the lab"
            ))),
            Some(Refusal::Expired) => Err(error.with_hint(match kind {
                Kind::Client => "the token has expired: run `jmp login`",
                Kind::Exporter => "the token has expired: ask who runs the lab for a new one",
            })),
            Some(Refusal::Denied) => Err(error.with_hint(format!(
                "the token is not the one of the {kind} {namespace}/{name}: check `metadata` and `token`"
            ))),
            _ if kind == Kind::Exporter && error.kind() == ErrorKind::FailedPrecondition => {
                Ok(accepted)
            }
            _ if error.kind() == ErrorKind::Unimplemented => Err(error.with_hint(NOT_A_CONTROLLER)),
            _ => Err(error),
        }
    }

    /// Checks that the server is a router: it refuses a tunnel without a token.
    ///
    /// # Errors
    /// `Unavailable` for another server.
    pub async fn router(&self) -> Result<String> {
        let hint = "check that it is the router's port, and not the controller's";
        let asking = async {
            let token = Secret::new("jmp-doctor");
            let options = self.controller.options();
            let (trust, tls) = (&options.trust, self.controller.tls());
            let opening = Tunnel::open(&self.endpoint, trust, tls, options.keepalive, &token);
            let mut tunnel = opening.await?;
            let mut nothing = [0];
            tunnel.read(&mut nothing).await.map_err(Error::from)
        };
        match within(asking).await {
            Err(error) if is_refusal(&error) => Ok(format!("{} is a router", self.endpoint)),
            Err(error) => Err(error.with_hint(hint)),
            Ok(_) => {
                Err(Error::unavailable(format!("{} accepts any tunnel", self.endpoint))
                    .with_hint(hint))
            }
        }
    }

    async fn connection(&self) -> Result<Connection> {
        let options = self.controller.options();
        let (trust, tls) = (&options.trust, self.controller.tls());
        Connection::open(&self.endpoint, trust, tls, options.keepalive).await
    }
}

/// Compares the clock of this machine with a controller's.
///
/// # Errors
/// `FailedPrecondition` if they differ by more than 30 s.
pub fn compare_clocks(here: SystemTime, there: SystemTime) -> Result<String> {
    let (apart, order) = match here.duration_since(there) {
        Ok(apart) => (apart, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let seconds = apart.as_secs();
    match apart > CLOCK_TOLERANCE {
        false => Ok(format!("the controller's clock says {}", rfc3339(there))),
        true => Err(Error::failed_precondition(format!(
            "the clock of this machine is {seconds} s {order} the controller's"
        ))
        .with_hint("set the clock, for example with `timedatectl set-ntp true`")),
    }
}

fn is_refusal(error: &Error) -> bool {
    Refusal::of(error).is_some_and(Refusal::is_of_the_token)
}

async fn within<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::deadline_exceeded(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, step).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared() {
        let there = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(there.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        let saw = compare_clocks(there + Duration::from_secs(2), there).unwrap();
        assert_eq!(saw, "the controller's clock says 1994-11-06T08:49:37.000Z");
        let ahead = compare_clocks(there + Duration::from_secs(90), there).unwrap_err();
        assert!(ahead.report().contains("90 s ahead of the controller's"), "{ahead:?}");
        let behind = compare_clocks(there - Duration::from_secs(90), there).unwrap_err();
        assert!(behind.report().contains("90 s behind the controller's"), "{behind:?}");
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
