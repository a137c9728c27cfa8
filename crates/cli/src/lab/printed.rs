//! The forms in which exporters and leases are printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use jumpstarter_client::lab::LeaseEntry;
use serde_json::{Value, json};

use super::times;
use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::format::Format;
use crate::{print, table};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table for people
    #[default]
    Text,
    /// A table with more columns
    Wide,
    /// One JSON document, and with --watch one a line
    Json,
    /// One YAML document, and with --watch several
    Yaml,
    /// One name a line
    Name,
}

impl Form {
    /// The format of errors beside it.
    pub(super) fn format(self) -> Format {
        if self == Self::Json { Format::Json } else { Format::Text }
    }
}

/// What is printed of an object.
type Part<'a, T, P> = Box<dyn Fn(&T) -> P + 'a>;

/// How objects are printed.
pub(super) struct Objects<'a, T> {
    pub(super) plural: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) name: fn(&T) -> &String,
    pub(super) json: Part<'a, T, Value>,
    pub(super) row: Part<'a, T, Vec<String>>,
}

impl<T> Objects<'_, T> {
    /// The titles of the columns.
    pub(super) fn heads(&self) -> Vec<String> {
        self.head.iter().map(|&title| title.to_owned()).collect()
    }

    /// Prints the objects; one that was named is no list in JSON and YAML.
    pub(super) fn print(
        &self,
        found: &[T],
        is_one: bool,
        form: Form,
        environment: &Environment,
    ) -> Result<u8> {
        let value = || match is_one {
            true => found.first().map_or(Value::Null, &self.json),
            false => json!({ self.plural: found.iter().map(&self.json).collect::<Vec<_>>() }),
        };
        let mut out = environment.out();
        match form {
            Form::Json => writeln!(out, "{}", print::json(&value())?)?,
            Form::Yaml => out.write_all(print::yaml(&value())?.as_bytes())?,
            Form::Name => {
                for object in found {
                    writeln!(out, "{}", print::line((self.name)(object)))?;
                }
            }
            Form::Text | Form::Wide if found.is_empty() => {
                writeln!(out, "No resources found.")?;
            }
            Form::Text | Form::Wide => {
                let rows = std::iter::once(self.heads()).chain(found.iter().map(&self.row));
                let rows: Vec<_> = rows.collect();
                out.write_all(table::aligned(&rows, environment.width()).as_bytes())?;
            }
        }
        Ok(SUCCESS)
    }
}

/// How leases are printed.
pub(super) fn leases() -> Objects<'static, LeaseEntry> {
    Objects {
        plural: "leases",
        head: HEAD.to_vec(),
        name: |lease| &lease.name,
        json: Box::new(lease_json),
        row: Box::new(lease_row),
    }
}

const HEAD: [&str; 7] =
    ["NAME", "SELECTOR", "EXPIRES AT", "REMAINING", "CLIENT", "EXPORTER", "TAGS"];

fn lease_row(lease: &LeaseEntry) -> Vec<String> {
    let selector = match lease.selector.is_empty() {
        true => "<none>".to_owned(),
        false => lease.selector.clone(),
    };
    let remaining = match lease.has_ended() {
        true => Some(Duration::ZERO),
        false => lease.remaining(),
    };
    vec![
        lease.name.clone(),
        selector,
        lease.expires_at().map(times::rfc3339).unwrap_or_default(),
        remaining.map(times::short).unwrap_or_default(),
        lease.client.clone(),
        lease.exporter.clone().or_else(|| lease.exporter_name.clone()).unwrap_or_default(),
        pairs(&lease.tags),
    ]
}

pub(super) fn lease_json(lease: &LeaseEntry) -> Value {
    let time = |time: Option<SystemTime>| time.map(times::rfc3339);
    let conditions = lease.conditions.iter().map(|condition| {
        let (seconds, nanos) = condition.since;
        json!({
            "type": condition.kind, "status": condition.status,
            "observedGeneration": condition.generation.to_string(),
            "lastTransitionTime": {"seconds": seconds.to_string(), "nanos": nanos},
            "reason": condition.reason, "message": condition.message,
        })
    });
    let mut value = json!({
        "namespace": lease.namespace, "name": lease.name, "selector": lease.selector,
        "exporter_name": lease.exporter_name, "tags": lease.tags,
        "duration": lease.duration.map(|duration| duration.as_secs_f64()),
        "effective_duration": lease.effective_duration.as_secs_f64(),
        "begin_time": time(lease.begin_time), "client": lease.client, "exporter": lease.exporter,
        "conditions": conditions.collect::<Vec<_>>(),
        "effective_begin_time": time(lease.effective_begin_time),
        "effective_end_time": time(lease.effective_end_time),
        "deprecated_labels": lease.deprecated_labels,
    });
    if !lease.context.is_empty() {
        value["context"] = json!(lease.context);
    }
    value
}

pub(super) fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

pub(super) fn pairs(pairs: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
