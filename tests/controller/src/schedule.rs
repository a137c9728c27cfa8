//! The scheduler: assigns exporters to leases, and ends leases.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::lease::Lease;
use crate::proto::v1::ExporterStatus;
use crate::state::{Core, Exporter, Key, State};

/// Looks at the leases whenever the state changes or a time has come.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let next = core.read().reconcile();
        let until = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = core.wake.notified() => {}
            () = until => {}
        }
        let delay = core.read().options.assignment_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

/// Why a lease has no exporter.
enum Refusal {
    /// It will never have one: the reason and the message.
    Final(&'static str, String),
    /// It waits: the reason and the message.
    Pending(&'static str, String),
}

impl State {
    /// Brings every lease where it should be; when to look again.
    fn reconcile(&mut self) -> Option<Instant> {
        let mut unpublished = BTreeSet::new();
        let presence = self.check_presence();
        let open: Vec<Key> =
            self.leases.iter().filter(|(_, l)| !l.ended).map(|(key, _)| key.clone()).collect();
        let now = self.clock.seconds();
        for key in &open {
            let Some(lease) = self.leases.get(key) else { continue };
            if lease.release {
                self.end(key, "Released", "The lease was marked for release", &mut unpublished);
            } else if lease.exporter.is_some() && lease.expiry().is_some_and(|expiry| expiry <= now)
            {
                self.end(key, "Expired", "The lease has expired", &mut unpublished);
            }
        }
        for key in &open {
            self.assign(key, &mut unpublished);
        }
        for key in unpublished {
            self.publish(&key);
        }
        let open = self.leases.values().filter(|lease| !lease.ended);
        let times = open.filter_map(|lease| match lease.exporter {
            Some(_) => Some(self.clock.instant(lease.expiry()?)),
            None => Some(lease.look_at),
        });
        times.chain(presence).min()
    }

    /// Ends a lease. Leases that wait are looked at again.
    fn end(&mut self, key: &Key, reason: &str, message: &str, unpublished: &mut BTreeSet<Key>) {
        let now = self.clock.seconds();
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.ended = true;
        lease.finished = Some(now);
        lease.set("Ready", false, reason, message, now);
        let Some(exporter) = lease.exporter.clone() else { return };
        let exporter = (key.0.clone(), exporter);
        if let Some(exporter) =
            self.exporters.get_mut(&exporter).filter(|e| e.lease.as_ref() == Some(&key.1))
        {
            exporter.lease = None;
        }
        if self.switches.joins_messages {
            unpublished.insert(exporter);
        } else {
            self.publish(&exporter);
        }
        for lease in self.leases.values_mut().filter(|l| !l.ended && l.exporter.is_none()) {
            lease.look_at = Instant::now();
        }
    }

    /// Gives a lease an exporter if its time has come and there is one.
    fn assign(&mut self, key: &Key, unpublished: &mut BTreeSet<Key>) {
        let now = self.clock.seconds();
        let Some(lease) = self.leases.get(key) else { return };
        if lease.ended || lease.exporter.is_some() || lease.look_at > Instant::now() {
            return;
        }
        if let Some(begin) = lease.times.begin.filter(|begin| *begin > now) {
            let at = self.clock.instant(begin);
            if let Some(lease) = self.leases.get_mut(key) {
                lease.look_at = at;
            }
            return;
        }
        let found = self.find(lease);
        let (first, longest) = self.options.recheck;
        let Some(lease) = self.leases.get_mut(key) else { return };
        match found {
            Ok(exporter) => self.give(key, exporter, unpublished),
            Err(Refusal::Final(reason, message)) => {
                lease.ended = true;
                lease.set("Unsatisfiable", true, reason, &message, now);
            }
            Err(Refusal::Pending(reason, message)) => {
                lease.set("Pending", true, reason, &message, now);
                let delay = first.saturating_mul(2_u32.saturating_pow(lease.attempts)).min(longest);
                lease.look_at = Instant::now() + delay;
                lease.attempts += 1;
            }
        }
    }

    /// Assigns an exporter to a lease.
    pub(crate) fn give(&mut self, key: &Key, exporter: String, unpublished: &mut BTreeSet<Key>) {
        let now = self.clock.seconds();
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.exporter = Some(exporter.clone());
        lease.began = Some(now);
        lease.set("Ready", true, "Ready", "An exporter has been acquired for the client", now);
        let exporter = (key.0.clone(), exporter);
        if let Some(exporter) = self.exporters.get_mut(&exporter) {
            exporter.lease = Some(key.1.clone());
        }
        if self.switches.joins_messages {
            unpublished.insert(exporter);
        } else {
            self.publish(&exporter);
        }
    }

    /// Ends what lease an exporter has, and gives the exporter to another one.
    pub(crate) fn jump(&mut self, exporter: &str, lease: &str) {
        let (exporter, next) = (self.key(exporter), self.key(lease));
        let mut unpublished = BTreeSet::new();
        let last = self.exporters.get(&exporter).and_then(|e| e.lease.clone());
        if let Some(last) = last {
            let last = (exporter.0.clone(), last);
            self.end(&last, "Released", "The lease was marked for release", &mut unpublished);
        }
        self.give(&next, exporter.1.clone(), &mut unpublished);
        self.publish(&exporter);
    }

    /// The exporter that a lease gets.
    fn find(&self, lease: &Lease) -> Result<String, Refusal> {
        let in_namespace = self.exporters.iter().filter(|((ns, _), _)| *ns == lease.namespace);
        let mut candidates: Vec<(&String, &Exporter)> = match &lease.exporter_name {
            Some(wanted) => {
                let mut named = in_namespace.filter(|((_, name), _)| name == wanted);
                let Some(((_, name), exporter)) = named.next() else {
                    let what = format!("Requested exporter {wanted} was not found");
                    return Err(Refusal::Final("ExporterNotFound", what));
                };
                if !lease.selector.matches(&exporter.labels) {
                    let what = format!("Requested exporter {wanted} does not match the selector");
                    return Err(Refusal::Final("SelectorMismatch", what));
                }
                if !exporter.enabled && !lease.allow_disabled {
                    let what = format!("Requested exporter {wanted} is disabled");
                    return Err(Refusal::Final("ExporterDisabled", what));
                }
                vec![(name, exporter)]
            }
            None => {
                let matching: Vec<_> = in_namespace
                    .filter(|(_, exporter)| lease.selector.matches(&exporter.labels))
                    .map(|((_, name), exporter)| (name, exporter))
                    .collect();
                let all = matching.len();
                let enabled: Vec<_> = matching.into_iter().filter(|(_, e)| e.enabled).collect();
                if all > 0 && enabled.is_empty() {
                    let what = format!("All {all} exporters matching the selector are disabled");
                    return Err(Refusal::Final("AllDisabled", what));
                }
                enabled
            }
        };
        let matching = candidates.len();
        let client = (lease.namespace.clone(), lease.client.clone());
        let priority = |e: &Exporter| self.priority_for(&e.labels, &client, lease.times.duration);
        candidates.retain(|(_, exporter)| priority(exporter).is_some());
        if candidates.is_empty() {
            let what = format!(
                "While there are {matching} exporters matching the selector, none of them are approved by any policy for your client"
            );
            return Err(Refusal::Final("NoAccess", what));
        }
        let approved = candidates.len();
        candidates.retain(|(_, exporter)| exporter.online && exporter.devices > 0);
        if candidates.is_empty() {
            // The controller leaves the names out.
            let what = format!(
                "While there are {approved} available exporters (i.e. ), none of them are online"
            );
            return Err(Refusal::Pending("Offline", what));
        }
        candidates.retain(|(_, exporter)| exporter.lease.is_none());
        if candidates.is_empty() {
            let what = format!(
                "There are {approved} approved exporters, (i.e. ) but all of them are already leased"
            );
            return Err(Refusal::Pending("NotAvailable", what));
        }
        let is_ready = |e: &Exporter| {
            matches!(e.status, ExporterStatus::Available | ExporterStatus::Unspecified)
        };
        candidates.retain(|(_, exporter)| is_ready(exporter));
        candidates.sort_by_key(|(name, e)| (std::cmp::Reverse(priority(e)), (*name).clone()));
        match candidates.first() {
            Some((name, _)) => Ok((*name).clone()),
            None => {
                let what = format!(
                    "There are {approved} approved exporters, (i.e. ) but none of them are ready"
                );
                Err(Refusal::Pending("NotReady", what))
            }
        }
    }
}

/// How long a lease waits until the scheduler looks for an exporter again: at first, and at most.
pub(crate) const RECHECK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
