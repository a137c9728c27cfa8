//! Waiting for the exporter of a lease.

use std::time::Duration;

use jumpstarter_controller::{Pauses, Refusal};
use jumpstarter_driver_core::{Error, ErrorKind, Result, rfc3339};
use tokio::time::Instant;

use super::{Lab, LeaseEntry, LeaseQuery};

/// A free exporter is there sooner; a longer wait is explained.
const EXPLAINED_AFTER: Duration = Duration::from_millis(300);
/// How often the holders of the wanted exporters are looked for anew.
const HOLDERS_INTERVAL: Duration = Duration::from_secs(10);

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
        let (mut last, begun) = (String::new(), Instant::now());
        let mut tell = |why: &str| {
            if last != why {
                progress(why);
                why.clone_into(&mut last);
            }
        };
        let mut holders = Holders::default();
        let waiting = async {
            let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(2));
            loop {
                let why = match judge(&lease) {
                    Verdict::Ready => return Ok(lease),
                    Verdict::Never(error) => return Err(error),
                    Verdict::Waits(why) => why,
                };
                if begun.elapsed() > EXPLAINED_AFTER {
                    tell(&holders.explain(self, &lease, why).await);
                }
                lease = loop {
                    pauses.wait().await;
                    match self.lease_named(&name).await {
                        Ok(lease) => break lease,
                        Err(error) if is_final(&error) => return Err(error),
                        Err(error) => tell(&format!("{error:#}")),
                    }
                };
            }
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.unwrap_or_else(|_| {
            let (seconds, why) = (limit.as_secs(), if last.is_empty() { "" } else { ": " });
            Err(Error::deadline_exceeded(format!("no exporter within {seconds} s{why}{last}"))
                .with_hint("ask for other labels, or wait longer with --acquisition-timeout"))
        })
    }

    /// Which of the exporters that a lease may get becomes free first: who has it, and until when.
    async fn first_holder(&self, lease: &LeaseEntry) -> Result<Option<String>> {
        let wanted = match &lease.exporter_name {
            Some(name) => vec![name.clone()],
            None => {
                let exporters = self.exporters(&lease.selector, true).await?;
                exporters.into_iter().map(|exporter| exporter.name).collect()
            }
        };
        let mut leases = self.leases(&LeaseQuery::default()).await?;
        leases.retain(|other| {
            !other.has_ended() && other.exporter.as_ref().is_some_and(|name| wanted.contains(name))
        });
        let others = leases.len();
        let first =
            leases.into_iter().min_by_key(|other| other.remaining().unwrap_or(Duration::MAX));
        Ok(first.map(|first| {
            let exporter = first.exporter.as_deref().unwrap_or_default();
            let mut text = format!("the exporter {exporter} is leased by {}", first.client);
            if let Some(end) = first.expires_at() {
                let time = rfc3339(end);
                let second = time.split_once('.').map_or(time.as_str(), |(second, _)| second);
                text += &format!(" until {}Z", second.trim_end_matches('Z'));
            }
            match others {
                ..=1 => text,
                _ => format!("{text}; it becomes free first, of {others} that are leased"),
            }
        }))
    }
}

/// What is known of the holders of the wanted exporters.
#[derive(Debug, Default)]
struct Holders {
    looked: Option<(Instant, String)>,
    known: Option<String>,
}

impl Holders {
    /// Who holds the exporters, if that is why a lease waits; else `why`.
    async fn explain(&mut self, lab: &Lab, lease: &LeaseEntry, why: String) -> String {
        let is_taken = lease.condition("Pending").is_some_and(|it| it.reason == "NotAvailable");
        if !is_taken {
            return why;
        }
        let is_fresh = self
            .looked
            .as_ref()
            .is_some_and(|(time, last)| time.elapsed() < HOLDERS_INTERVAL && *last == why);
        if !is_fresh {
            // The controller's own reason does without a listing that it refuses.
            self.known = lab.first_holder(lease).await.unwrap_or_default();
            self.looked = Some((Instant::now(), why.clone()));
        }
        self.known.clone().unwrap_or(why)
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
