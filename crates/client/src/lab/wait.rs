//! Waiting for the exporter of a lease.

use std::time::Duration;

use jumpstarter_controller::{Pauses, Refusal};
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::{Lab, LeaseEntry};

/// A free exporter is there sooner; a longer wait is explained.
const EXPLAINED_AFTER: Duration = Duration::from_millis(300);

/// What a lease says of itself.
#[derive(Debug)]
enum Verdict {
    Ready,
    Waits(String),
    Never(Error),
}

fn judge(lease: &LeaseEntry) -> Verdict {
    let name = &lease.name;
    let is = |kind: &str, status: &str| {
        lease.condition(kind).filter(|condition| condition.status == status)
    };
    let never = |message: String| Verdict::Never(Error::failed_precondition(message));
    if is("Ready", "True").is_some() && lease.exporter.is_some() {
        return Verdict::Ready;
    }
    if let Some(condition) = is("Unsatisfiable", "True") {
        // An old controller's word for exporters that are offline.
        if condition.reason == "NoExporter" {
            return Verdict::Waits(condition.message.clone());
        }
        return never(format!("the lease cannot be satisfied: {}", condition.message));
    }
    if let Some(condition) = is("Invalid", "True") {
        return never(format!("the lease is not valid: {}", condition.message));
    }
    if let Some(condition) = is("Ready", "False") {
        return never(format!("the lease {name} is over: {}", condition.message));
    }
    if lease.has_ended() {
        return never(format!("the lease {name} is over"));
    }
    let pending = lease.condition("Pending").map(|condition| condition.message.clone());
    Verdict::Waits(pending.unwrap_or_else(|| match lease.begin_time {
        Some(_) => "the lease begins later".to_owned(),
        None => "the controller looks for an exporter".to_owned(),
    }))
}

impl Lab {
    /// Waits until a lease has its exporter. `progress` gets each new reason for the wait. A
    /// controller that is away is waited for.
    pub(super) async fn wait_for_exporter(
        &self,
        mut lease: LeaseEntry,
        limit: Duration,
        mut progress: impl FnMut(&str),
    ) -> Result<LeaseEntry> {
        let name = lease.name.clone();
        let (mut last, begun) = (None, Instant::now());
        let waiting = async {
            let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(2));
            loop {
                let why = match judge(&lease) {
                    Verdict::Ready => return Ok(lease),
                    Verdict::Never(error) => return Err(error),
                    Verdict::Waits(why) => why,
                };
                if last.as_ref() != Some(&why) && begun.elapsed() > EXPLAINED_AFTER {
                    progress(&why);
                    last = Some(why);
                }
                lease = loop {
                    pauses.wait().await;
                    match self.lease_named(&name).await {
                        Ok(lease) => break lease,
                        Err(error) if is_final(&error) => return Err(error),
                        Err(error) => progress(&format!("{error:#}")),
                    }
                };
            }
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.unwrap_or_else(|_| {
            let why = last.unwrap_or_default();
            Err(Error::deadline_exceeded(format!(
                "no exporter within {} s: {why}",
                limit.as_secs()
            ))
            .with_hint("ask for other labels, or wait longer with --acquisition-timeout"))
        })
    }
}

/// Whether asking again cannot help.
fn is_final(error: &Error) -> bool {
    match Refusal::of(error) {
        Some(Refusal::NotReady) => false,
        Some(_) => true,
        None => !matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::DeadlineExceeded
        ),
    }
}
