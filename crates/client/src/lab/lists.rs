//! The exporters and leases of a lab.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::client::v1;
use jumpstarter_protocol::rpc::client::{
    CreateLease, DeleteLease, GetExporter, GetLease, ListExporters, ListLeases, UpdateLease,
};
use jumpstarter_protocol::v1::ExporterStatus;

use super::{Lab, base};

/// The most objects of one page.
const PAGE: i32 = 100;

/// An exporter of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExporterEntry {
    /// The namespace of the lab.
    pub namespace: String,
    /// The name in it.
    pub name: String,
    /// Its labels, without those that the controller hides.
    pub labels: BTreeMap<String, String>,
    /// Labels that are not to be used any more, with a text for their users.
    pub deprecated_labels: BTreeMap<String, String>,
    /// Whether it is connected.
    pub is_online: bool,
    /// Whether leases may have it; `None` if the controller does not say.
    pub is_enabled: Option<bool>,
    /// What it is doing, such as `AVAILABLE`.
    pub status: String,
    /// Its text for people.
    pub status_message: String,
}

/// A condition of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Its type, such as `Ready`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, as one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation of the lease that it is about.
    pub generation: i64,
    /// When it became so: seconds since 1970, and nanoseconds.
    pub since: (i64, i32),
}

/// A lease of a lab.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LeaseEntry {
    /// The namespace of the lab.
    pub namespace: String,
    /// The name in it.
    pub name: String,
    /// The labels of the exporters that it may be of.
    pub selector: String,
    /// The exporter that it must be of.
    pub exporter_name: Option<String>,
    /// The tags that its client gave it.
    pub tags: BTreeMap<String, String>,
    /// The context that its client gave it.
    pub context: BTreeMap<String, String>,
    /// How long it was wanted.
    pub duration: Option<Duration>,
    /// How long it has lasted.
    pub effective_duration: Duration,
    /// When it was to begin.
    pub begin_time: Option<SystemTime>,
    /// When it was to end.
    pub end_time: Option<SystemTime>,
    /// When it got its exporter.
    pub effective_begin_time: Option<SystemTime>,
    /// When it ended.
    pub effective_end_time: Option<SystemTime>,
    /// Its client's name.
    pub client: String,
    /// Its exporter's name, once it has one.
    pub exporter: Option<String>,
    /// What the controller says of it.
    pub conditions: Vec<Condition>,
    /// Labels of the selector that are not to be used any more, with a text for their users.
    pub deprecated_labels: BTreeMap<String, String>,
}

impl LeaseEntry {
    /// The condition of that type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.effective_end_time.is_some()
    }

    /// How much of it is left, by the controller's clock; `None` before it has begun.
    pub fn remaining(&self) -> Option<Duration> {
        let begun = self.effective_begin_time?;
        if let (None, Some(end)) = (self.duration, self.end_time) {
            let now = begun + self.effective_duration;
            return Some(end.duration_since(now).unwrap_or_default());
        }
        Some(self.duration?.saturating_sub(self.effective_duration))
    }

    /// When it ends, by the controller's clock.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let by_duration = || {
            let begin = self.effective_begin_time.or(self.begin_time)?;
            begin.checked_add(self.duration?)
        };
        self.effective_end_time.or(self.end_time).or_else(by_duration)
    }
}

/// Which leases are listed.
#[derive(Clone, Debug, Default)]
pub struct LeaseQuery {
    /// A label selector for the leases' own labels.
    pub filter: String,
    /// A selector for their tags.
    pub tags: String,
    /// Those that have ended, too.
    pub with_ended: bool,
}

impl Lab {
    /// Lists the exporters whose labels match `filter`.
    ///
    /// # Errors
    /// The controller's.
    pub async fn exporters(&self, filter: &str, with_hidden: bool) -> Result<Vec<ExporterEntry>> {
        let mut request = v1::ListExportersRequest {
            parent: self.parent(),
            page_size: PAGE,
            filter: filter.to_owned(),
            show_hidden_labels: with_hidden,
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.controller.call::<ListExporters>(&request).await?;
            all.extend(page.exporters.into_iter().map(ExporterEntry::from));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Asks for an exporter.
    ///
    /// # Errors
    /// The controller's.
    pub async fn exporter(&self, name: &str, with_hidden: bool) -> Result<ExporterEntry> {
        let request = v1::GetExporterRequest {
            name: self.path("exporters", name),
            show_hidden_labels: with_hidden,
        };
        Ok(self.controller.call::<GetExporter>(&request).await?.into())
    }

    /// Lists leases of all clients of the namespace.
    ///
    /// # Errors
    /// The controller's.
    pub async fn leases(&self, query: &LeaseQuery) -> Result<Vec<LeaseEntry>> {
        let mut request = v1::ListLeasesRequest {
            parent: self.parent(),
            page_size: PAGE,
            filter: query.filter.clone(),
            tag_filter: query.tags.clone(),
            only_active: Some(!query.with_ended),
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.controller.call::<ListLeases>(&request).await?;
            all.extend(page.leases.into_iter().map(LeaseEntry::from));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Asks for a lease.
    ///
    /// # Errors
    /// The controller's.
    pub async fn lease_named(&self, name: &str) -> Result<LeaseEntry> {
        let request = v1::GetLeaseRequest { name: self.path("leases", name) };
        Ok(self.controller.call::<GetLease>(&request).await?.into())
    }

    /// Creates a lease, without waiting for its exporter. An empty `id` lets the controller choose
    /// the name.
    ///
    /// # Errors
    /// The controller's.
    pub async fn create_lease(&self, lease: v1::Lease, id: &str) -> Result<LeaseEntry> {
        let request = v1::CreateLeaseRequest {
            parent: self.parent(),
            lease_id: id.to_owned(),
            lease: Some(lease),
        };
        Ok(self.controller.call::<CreateLease>(&request).await?.into())
    }

    /// Changes the duration, the beginning or the client of a lease.
    ///
    /// # Errors
    /// The controller's; `InvalidArgument` for a duration that cannot be sent.
    pub async fn change_lease(
        &self,
        name: &str,
        duration: Option<Duration>,
        begin_time: Option<SystemTime>,
        client: Option<&str>,
    ) -> Result<LeaseEntry> {
        let long = |_| Error::invalid_argument("the duration is too long");
        let lease = v1::Lease {
            name: self.path("leases", name),
            duration: duration.map(TryInto::try_into).transpose().map_err(long)?,
            begin_time: begin_time.map(Into::into),
            client: client.map(|client| self.path("clients", client)),
            ..Default::default()
        };
        let request = v1::UpdateLeaseRequest { lease: Some(lease), update_mask: None };
        Ok(self.controller.call::<UpdateLease>(&request).await?.into())
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// The controller's: `FailedPrecondition` for one that was ended already.
    pub async fn delete_lease(&self, name: &str) -> Result<()> {
        self.end_lease(name, Duration::ZERO).await
    }

    /// Ends a lease. A controller that is away is waited for, for at most `patience`.
    pub(super) async fn end_lease(&self, name: &str, patience: Duration) -> Result<()> {
        let request = v1::DeleteLeaseRequest { name: self.path("leases", name) };
        self.controller.call_patiently::<DeleteLease>(&request, patience).await
    }
}

/// The namespace in a path.
fn namespace(path: &str) -> String {
    path.split('/').nth(1).unwrap_or_default().to_owned()
}

impl From<v1::Exporter> for ExporterEntry {
    fn from(exporter: v1::Exporter) -> Self {
        let status = exporter.status();
        #[expect(deprecated, reason = "old controllers know nothing else")]
        let is_online = exporter.online;
        Self {
            namespace: namespace(&exporter.name),
            name: base(&exporter.name).to_owned(),
            labels: exporter.labels.into_iter().collect(),
            deprecated_labels: exporter.deprecated_labels.into_iter().collect(),
            is_online,
            is_enabled: exporter.enabled,
            status: name_of(status).to_owned(),
            status_message: exporter.status_message,
        }
    }
}

/// The state's name without the prefix of the wire.
fn name_of(status: ExporterStatus) -> &'static str {
    status.as_str_name().trim_start_matches("EXPORTER_STATUS_")
}

impl From<v1::Lease> for LeaseEntry {
    fn from(lease: v1::Lease) -> Self {
        let time = |time: Option<jumpstarter_protocol::Timestamp>| {
            time.and_then(|time| SystemTime::try_from(time).ok())
        };
        let duration = |duration: Option<jumpstarter_protocol::Duration>| {
            duration.and_then(|duration| Duration::try_from(duration).ok())
        };
        let conditions = lease.conditions.into_iter().map(|condition| {
            let since = condition.last_transition_time.unwrap_or_default();
            Condition {
                kind: condition.r#type.unwrap_or_default(),
                status: condition.status.unwrap_or_default(),
                reason: condition.reason.unwrap_or_default(),
                message: condition.message.unwrap_or_default(),
                generation: condition.observed_generation.unwrap_or_default(),
                since: (since.seconds.unwrap_or_default(), since.nanos.unwrap_or_default()),
            }
        });
        Self {
            namespace: namespace(&lease.name),
            name: base(&lease.name).to_owned(),
            selector: lease.selector,
            exporter_name: lease.exporter_name.filter(|name| !name.is_empty()),
            tags: lease.tags.into_iter().collect(),
            context: lease.context.into_iter().collect(),
            duration: duration(lease.duration),
            effective_duration: duration(lease.effective_duration).unwrap_or_default(),
            begin_time: time(lease.begin_time),
            end_time: time(lease.end_time),
            effective_begin_time: time(lease.effective_begin_time),
            effective_end_time: time(lease.effective_end_time),
            client: lease.client.as_deref().map(base).unwrap_or_default().to_owned(),
            exporter: lease
                .exporter
                .as_deref()
                .map(base)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            conditions: conditions.collect(),
            deprecated_labels: lease.deprecated_labels.into_iter().collect(),
        }
    }
}
