//! A lease: what was asked for, what became of it, and how the messages show both.
use std::collections::BTreeMap;

use prost_types::{Duration, Timestamp};
use tokio::time::Instant;
use tonic::Status;

use crate::clock::go_duration;
use crate::names;
use crate::proto::client_v1 as client;
use crate::proto::v1::{Condition, GetLeaseResponse, Time};
use crate::selector::{Labels, Selector};
use crate::state::{Exporter, Key, State};

/// The label of leases that are over.
pub(crate) const ENDED: &str = "jumpstarter.dev/lease-ended";
/// What tags begin with among the labels.
pub(crate) const TAGS: &str = "metadata.jumpstarter.dev/";
const TAGS_AT_MOST: usize = 10;
const CONTEXT_AT_MOST: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) client: String,
    pub(crate) selector: Selector,
    pub(crate) exporter_name: Option<String>,
    pub(crate) times: Times,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) allow_disabled: bool,
    /// It was asked to end.
    pub(crate) release: bool,
    /// Nothing will happen to it any more.
    pub(crate) ended: bool,
    pub(crate) exporter: Option<String>,
    pub(crate) began: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    /// How often the scheduler has looked for an exporter in vain.
    pub(crate) attempts: u32,
    pub(crate) look_at: Instant,
}

/// The times that a lease was asked for with, in nanoseconds and in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) duration: i128,
    pub(crate) begin: Option<i64>,
    pub(crate) end: Option<i64>,
}

impl Times {
    /// Checks the combination, and computes what is not given.
    pub(crate) fn of(lease: &client::Lease) -> Result<Self, Status> {
        let nanoseconds =
            |t: &Timestamp| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
        let given =
            lease.duration.map(|d| i128::from(d.seconds) * 1_000_000_000 + i128::from(d.nanos));
        let between = lease
            .begin_time
            .as_ref()
            .zip(lease.end_time.as_ref())
            .map(|(begin, end)| nanoseconds(end) - nanoseconds(begin));
        let Some(duration) = given.or(between) else {
            return Err(Status::unknown(
                "duration is required (must specify Duration, or both BeginTime and EndTime)",
            ));
        };
        if duration <= 0 {
            let what = format!("duration must be positive, got {}", go_duration(duration));
            return Err(Status::unknown(what));
        }
        if let Some(between) = between.filter(|between| *between != duration) {
            return Err(Status::unknown(format!(
                "duration {} conflicts with the {} from BeginTime to EndTime",
                go_duration(duration),
                go_duration(between)
            )));
        }
        let end = lease.end_time.map(|t| t.seconds);
        let seconds = i64::try_from(duration / 1_000_000_000).unwrap_or(i64::MAX);
        let begin = lease.begin_time.map(|t| t.seconds);
        Ok(Self { duration, begin: begin.or_else(|| Some(end? - seconds)), end })
    }
}

impl Lease {
    /// A lease that the scheduler looks at next.
    pub(crate) fn new(key: &Key, client: String, selector: Selector, times: Times) -> Self {
        Self {
            namespace: key.0.clone(),
            name: key.1.clone(),
            client,
            selector,
            exporter_name: None,
            times,
            tags: BTreeMap::new(),
            context: BTreeMap::new(),
            allow_disabled: false,
            release: false,
            ended: false,
            exporter: None,
            began: None,
            finished: None,
            conditions: Vec::new(),
            attempts: 0,
            look_at: Instant::now(),
        }
    }

    /// When it expires; a lease without an exporter and without times does not.
    pub(crate) fn expiry(&self) -> Option<i64> {
        let seconds = i64::try_from(self.times.duration / 1_000_000_000).unwrap_or(i64::MAX);
        let begin = self.times.begin.or(self.began);
        self.times.end.or_else(|| Some(begin?.saturating_add(seconds)))
    }

    /// The labels that filters see.
    pub(crate) fn labels(&self) -> Labels {
        let mut labels = self.selector.equalities();
        labels.retain(|key, _| !key.starts_with(TAGS));
        labels.extend(self.tags.iter().map(|(key, value)| (format!("{TAGS}{key}"), value.clone())));
        if self.ended {
            labels.insert(ENDED.to_owned(), "true".to_owned());
        }
        labels
    }

    /// Sets a condition. Its place in the list stays.
    pub(crate) fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str, now: i64) {
        let status = if holds { "True" } else { "False" };
        let at = self.conditions.iter().position(|c| c.r#type.as_deref() == Some(kind));
        let at = at.unwrap_or_else(|| {
            let r#type = Some(kind.to_owned());
            self.conditions.push(Condition { r#type, ..Condition::default() });
            self.conditions.len() - 1
        });
        let condition = &mut self.conditions[at];
        if condition.status.as_deref() != Some(status) {
            condition.last_transition_time = Some(Time { seconds: Some(now), nanos: Some(0) });
        }
        condition.status = Some(status.to_owned());
        condition.observed_generation = Some(1);
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }

    /// As ClientService shows it.
    pub(crate) fn to_message(&self, state: &State) -> client::Lease {
        let full = |kind: &str, name: &String| names::full(&self.namespace, kind, name);
        let deprecated = &state.options.deprecated_labels;
        let now = state.clock.precise();
        let effective = self.began.map(|began| {
            let until = self.finished.map_or(now, at);
            let nanos = if until.seconds < began { 0 } else { until.nanos };
            Duration { seconds: (until.seconds - began).max(0), nanos }
        });
        client::Lease {
            name: full("leases", &self.name),
            selector: self.selector.to_string(),
            duration: Some(duration(self.times.duration)),
            effective_duration: effective,
            begin_time: self.times.begin.map(at),
            effective_begin_time: self.began.map(at),
            end_time: self.times.end.map(at),
            effective_end_time: self.finished.filter(|_| self.began.is_some()).map(at),
            client: Some(full("clients", &self.client)),
            exporter: self.exporter.as_ref().map(|name| full("exporters", name)),
            conditions: self.conditions.clone(),
            exporter_name: self.exporter_name.clone(),
            tags: self.tags.clone().into_iter().collect(),
            allow_disabled: self.allow_disabled,
            context: self.context.clone().into_iter().collect(),
            deprecated_labels: self
                .selector
                .keys()
                .filter_map(|key| Some((key.to_owned(), deprecated.get(key)?.clone())))
                .collect(),
        }
    }

    /// As the older GetLease shows it.
    pub(crate) fn to_old_message(&self, exporter: Option<&Exporter>) -> GetLeaseResponse {
        GetLeaseResponse {
            duration: Some(duration(self.times.duration)),
            selector: Some(self.selector.to_message()),
            begin_time: self.began.map(at),
            end_time: self.finished.map(at),
            exporter_uuid: exporter.map(|exporter| exporter.uid.clone()),
            conditions: self.conditions.clone(),
        }
    }
}

/// Checks tags: their number, their keys, their values.
pub(crate) fn check_tags<'a>(
    tags: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Status> {
    let refuse =
        |what: String| Err(Status::invalid_argument(format!("invalid lease tags: {what}")));
    if tags.len() > TAGS_AT_MOST {
        return refuse(format!("too many tags: {} (maximum {TAGS_AT_MOST})", tags.len()));
    }
    for (key, value) in tags {
        if key.contains('/') {
            return refuse(format!(
                "tag key {key:?} must not contain '/' (use simple names without prefix)"
            ));
        }
        if key.is_empty() || !is_label_value(key) {
            return refuse(format!("tag key {key:?} is not a valid label key"));
        }
        if !is_label_value(value) {
            return refuse(format!(
                "tag value for key {key:?} is not a valid label value: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ));
        }
    }
    Ok(())
}

/// Checks what Kubernetes checks when the object is stored: its name and its context.
pub(crate) fn check_object(name: &str, context: &BTreeMap<String, String>) -> Result<(), Status> {
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            part.starts_with(ends)
                && part.ends_with(ends)
                && part.chars().all(|c| ends(c) || c == '-')
        });
    if !is_name {
        return Err(Status::unknown(format!(
            "Lease.jumpstarter.dev {name:?} is invalid: metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )));
    }
    let fits =
        |(key, value): (&String, &String)| key.chars().count() <= 32 && value.chars().count() <= 64;
    if context.len() > CONTEXT_AT_MOST || !context.iter().all(fits) {
        return Err(Status::unknown(format!(
            "Lease.jumpstarter.dev {name:?} is invalid: spec.context: Invalid value: at most {CONTEXT_AT_MOST} entries with keys of 32 and values of 64 characters"
        )));
    }
    Ok(())
}

/// Whether a text can be the value of a label.
fn is_label_value(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.starts_with(ends)
            && text.ends_with(ends)
            && text.chars().all(|c| ends(c) || "-_.".contains(c))
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn duration(nanoseconds: i128) -> Duration {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    Duration { seconds, nanos: (nanoseconds % 1_000_000_000) as i32 }
}
