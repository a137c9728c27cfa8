//! `jmp get`, `jmp create`, `jmp update` and `jmp delete`: the exporters and leases of a lab.

use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use jumpstarter_client::lab::{ExporterEntry, Lab, LeaseEntry, LeaseQuery, Wanted};
use jumpstarter_driver_core::Error;
use serde_json::{Value, json};

use super::printed::{Form, HEAD, Objects, lease_json, lease_row, one_lease, pairs, yes};
use super::selector::Selector;
use super::{Who, times, token};
use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::format::Format;
use crate::print;
use crate::serving::runtime;

/// List the exporters or the leases of a lab
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp get exporters --with leases,status
  jmp get leases -l board=rpi4 -o json")]
pub(crate) struct Get {
    #[command(subcommand)]
    what: GetWhat,
}

#[derive(Debug, clap::Subcommand)]
enum GetWhat {
    #[command(visible_alias = "e", alias = "exporter")]
    Exporters(Exporters),
    #[command(visible_alias = "l", alias = "lease")]
    Leases(Leases),
}

/// What is shown beside an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    Leases,
    Online,
    Status,
}

/// List exporters
#[derive(Debug, clap::Args)]
struct Exporters {
    #[command(flatten)]
    who: Who,
    /// Only this one
    #[arg(value_name = "EXPORTER")]
    name: Option<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// What to show beside them
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    with: Vec<With>,
    /// Those that are disabled, too
    #[arg(long)]
    allow_disabled: bool,
    /// The labels that the controller hides, too
    #[arg(long)]
    show_hidden_labels: bool,
    /// Exporters in one answer of the controller; all of them are listed
    #[arg(long, hide = true)]
    page_size: Option<u32>,
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

/// List leases
#[derive(Debug, clap::Args)]
struct Leases {
    #[command(flatten)]
    who: Who,
    /// Only this one
    #[arg(value_name = "LEASE")]
    name: Option<String>,
    /// Those with these labels in their selector
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// Those that have ended, too
    #[arg(short = 'a', long)]
    all: bool,
    /// Those of every client
    #[arg(short = 'A', long)]
    all_clients: bool,
    /// Those with these tags
    #[arg(long, value_name = "TAGS", default_value = "")]
    tag_filter: String,
    /// Leases in one answer of the controller; all of them are listed
    #[arg(long, hide = true)]
    page_size: Option<u32>,
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

/// Create a lease
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    #[command(subcommand)]
    what: CreateWhat,
}

#[derive(Debug, clap::Subcommand)]
enum CreateWhat {
    #[command(visible_alias = "l", alias = "leases")]
    Lease(CreateLease),
}

/// Create a lease, without waiting for its exporter
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp shell --lease $(jmp create lease -l board=rpi4 --duration 2h -o name)")]
struct CreateLease {
    #[command(flatten)]
    who: Who,
    /// Of an exporter with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// Of the exporter with this name
    #[arg(short = 'n', long = "name", value_name = "EXPORTER")]
    exporter: Option<String>,
    /// How long: seconds, or a time such as 30m or 1d3h
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    duration: Duration,
    /// When it begins, as 2026-12-24T12:00:00Z; at once by default
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    begin_time: Option<SystemTime>,
    /// What the lease is called; the controller chooses by default
    #[arg(long, value_name = "NAME", default_value = "")]
    lease_id: String,
    /// A label of the lease itself, by which `jmp get leases --tag-filter` finds it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// A text that the exporter sees
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// Of an exporter that is disabled, too
    #[arg(long)]
    allow_disabled: bool,
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

/// Change a lease
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    #[command(subcommand)]
    what: UpdateWhat,
}

#[derive(Debug, clap::Subcommand)]
enum UpdateWhat {
    #[command(visible_alias = "l", alias = "leases")]
    Lease(UpdateLease),
}

/// Change the duration, the beginning or the client of a lease
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true, args = ["duration", "begin_time", "to_client"])]
struct UpdateLease {
    /// As `jmp get leases` lists it
    #[arg(value_name = "LEASE")]
    name: String,
    #[command(flatten)]
    who: Who,
    /// How long it lasts from its beginning
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    duration: Option<Duration>,
    /// When it begins
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    begin_time: Option<SystemTime>,
    /// The client that gets it
    #[arg(long, value_name = "CLIENT")]
    to_client: Option<String>,
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

/// End leases
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    #[command(subcommand)]
    what: DeleteWhat,
}

#[derive(Debug, clap::Subcommand)]
enum DeleteWhat {
    #[command(visible_alias = "l", alias = "lease")]
    Leases(DeleteLeases),
}

/// End leases
#[derive(Debug, clap::Args)]
struct DeleteLeases {
    /// The leases' names
    #[arg(value_name = "LEASE")]
    names: Vec<String>,
    #[command(flatten)]
    who: Who,
    /// Own leases with these labels in their selector
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// All own leases
    #[arg(short = 'a', long)]
    all: bool,
    /// Those of other clients, too
    #[arg(short = 'A', long)]
    all_clients: bool,
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Get {
    /// The format of the command's errors.
    pub(crate) fn format(&self) -> Format {
        match &self.what {
            GetWhat::Exporters(arguments) => arguments.output.format(),
            GetWhat::Leases(arguments) => arguments.output.format(),
        }
    }

    pub(crate) fn run(&self, environment: &Environment) -> Result<u8> {
        match &self.what {
            GetWhat::Exporters(arguments) => with_lab(&arguments.who, environment, async |lab| {
                arguments.run(&lab, environment).await
            }),
            GetWhat::Leases(arguments) => with_lab(&arguments.who, environment, async |lab| {
                arguments.run(&lab, environment).await
            }),
        }
    }
}

impl Create {
    pub(crate) fn format(&self) -> Format {
        let CreateWhat::Lease(arguments) = &self.what;
        arguments.output.format()
    }

    pub(crate) fn run(&self, environment: &Environment) -> Result<u8> {
        let CreateWhat::Lease(arguments) = &self.what;
        with_lab(&arguments.who, environment, async |lab| {
            let selector = arguments.selector.join(",");
            let wanted = match &arguments.exporter {
                Some(name) => Wanted::exporter(name).and_selector(selector),
                None if selector.is_empty() => {
                    return Err(Fault::usage(
                        "which exporter?",
                        "add --selector LABELS or --name EXPORTER",
                    ));
                }
                None => Wanted::selector(selector),
            };
            let mut wanted = wanted
                .duration(arguments.duration)
                .begin_time(arguments.begin_time)
                .allow_disabled(arguments.allow_disabled);
            for (key, value) in &arguments.tag {
                wanted = wanted.tag(key, value);
            }
            for (key, value) in &arguments.context {
                wanted = wanted.context(key, value);
            }
            let lease = lab.create_lease(wanted.to_wire()?, &arguments.lease_id).await?;
            one_lease(&lease, arguments.output, environment)
        })
    }
}

impl Update {
    pub(crate) fn format(&self) -> Format {
        let UpdateWhat::Lease(arguments) = &self.what;
        arguments.output.format()
    }

    pub(crate) fn run(&self, environment: &Environment) -> Result<u8> {
        let UpdateWhat::Lease(arguments) = &self.what;
        with_lab(&arguments.who, environment, async |lab| {
            // The controller wants a duration beside a beginning.
            let duration = match (arguments.duration, arguments.begin_time) {
                (None, Some(_)) => lab.lease_named(&arguments.name).await?.duration,
                (duration, _) => duration,
            };
            let lease = lab
                .change_lease(
                    &arguments.name,
                    duration,
                    arguments.begin_time,
                    arguments.to_client.as_deref(),
                )
                .await?;
            one_lease(&lease, arguments.output, environment)
        })
    }
}

impl Delete {
    pub(crate) fn format(&self) -> Format {
        let DeleteWhat::Leases(arguments) = &self.what;
        arguments.output.format()
    }

    pub(crate) fn run(&self, environment: &Environment) -> Result<u8> {
        let DeleteWhat::Leases(arguments) = &self.what;
        with_lab(&arguments.who, environment, async |lab| arguments.run(&lab, environment).await)
    }
}

/// Runs a command with the lab of a client.
fn with_lab(
    who: &Who,
    environment: &Environment,
    command: impl AsyncFnOnce(Lab) -> Result<u8>,
) -> Result<u8> {
    let config = who.config(environment)?;
    runtime()?.block_on(async {
        let lab = Lab::of_client(&token::renewed(config).await?)?;
        command(lab).await
    })
}

impl Exporters {
    async fn run(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let mut found = match &self.name {
            Some(name) => vec![lab.exporter(name, self.show_hidden_labels).await?],
            None => lab.exporters(&self.selector.join(","), self.show_hidden_labels).await?,
        };
        if self.name.is_none() && !self.allow_disabled {
            found.retain(|exporter| exporter.is_enabled != Some(false));
        }
        let leases = match self.with.contains(&With::Leases) {
            true => lab.leases(&LeaseQuery::default()).await?,
            false => Vec::new(),
        };
        let lease_of = |exporter: &ExporterEntry| {
            leases.iter().find(|lease| lease.exporter.as_deref() == Some(exporter.name.as_str()))
        };
        let shows = |what: With| self.with.contains(&what) || self.output == Form::Wide;
        let as_json = |exporter: &ExporterEntry| {
            let mut value = json!({
                "namespace": exporter.namespace, "name": exporter.name,
                "labels": exporter.labels, "deprecated_labels": exporter.deprecated_labels,
            });
            if self.with.contains(&With::Leases) {
                value["lease"] = lease_of(exporter).map_or(Value::Null, lease_json);
            }
            if self.with.contains(&With::Online) {
                value["online"] = exporter.is_online.into();
            }
            if self.with.contains(&With::Status) {
                value["status"] = exporter.status.clone().into();
            }
            value
        };
        let mut head = vec!["NAME"];
        head.extend(self.allow_disabled.then_some("ENABLED"));
        head.extend(shows(With::Online).then_some("ONLINE"));
        head.extend(shows(With::Status).then_some("STATUS"));
        head.push("LABELS");
        if self.with.contains(&With::Leases) {
            head.extend(["LEASED BY", "LEASE STATUS", "RELEASE TIME"]);
        }
        let row = |exporter: &ExporterEntry| {
            let mut row = vec![exporter.name.clone()];
            row.extend(self.allow_disabled.then(|| yes(exporter.is_enabled != Some(false))));
            row.extend(shows(With::Online).then(|| yes(exporter.is_online)));
            row.extend(shows(With::Status).then(|| exporter.status.clone()));
            row.push(pairs(&exporter.labels));
            if self.with.contains(&With::Leases) {
                let lease = lease_of(exporter);
                row.push(lease.map(|lease| lease.client.clone()).unwrap_or_default());
                row.push(lease.map_or("Available", |_| "Leased").to_owned());
                let end = lease.and_then(LeaseEntry::expires_at);
                row.push(end.map(times::rfc3339).unwrap_or_default());
            }
            row
        };
        let objects = Objects { plural: "exporters", head, name: |e: &ExporterEntry| &e.name };
        match &self.name {
            Some(_) => objects.print_one(&found, as_json, row, self.output, environment),
            None => objects.print(&found, as_json, row, self.output, environment),
        }
    }
}

impl Leases {
    async fn run(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let found = match &self.name {
            Some(name) => vec![lab.lease_named(name).await?],
            None => {
                let tags = &self.tag_filter;
                find(lab, &self.selector, tags, self.all, self.all_clients).await?
            }
        };
        let objects =
            Objects { plural: "leases", head: HEAD.to_vec(), name: |l: &LeaseEntry| &l.name };
        match &self.name {
            Some(_) => objects.print_one(&found, lease_json, lease_row, self.output, environment),
            None => objects.print(&found, lease_json, lease_row, self.output, environment),
        }
    }
}

impl DeleteLeases {
    async fn run(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let names: Vec<String> = match (self.names.as_slice(), &*self.selector, self.all) {
            ([], [], false) => {
                return Err(Fault::usage(
                    "which leases?",
                    "name them, or add --selector LABELS or --all",
                ));
            }
            ([], selector, _) => {
                let found = find(lab, selector, "", false, self.all_clients).await?;
                found.into_iter().map(|lease| lease.name).collect()
            }
            (names, ..) => names.to_vec(),
        };
        if names.is_empty() {
            return Err(Fault::Failed(Error::not_found("no lease matches")));
        }
        for name in names {
            lab.delete_lease(&name).await?;
            let shown = print::line(&name);
            match self.output {
                Form::Name => writeln!(environment.out(), "{shown}")?,
                Form::Json => {
                    writeln!(environment.out(), "{}", print::json(&json!({"name": name}))?)?
                }
                _ => writeln!(environment.out(), "lease \"{shown}\" deleted")?,
            }
        }
        Ok(SUCCESS)
    }
}

/// The leases whose selectors have, or fulfil, every requirement of `selector`.
async fn find(
    lab: &Lab,
    selector: &[String],
    tags: &str,
    with_ended: bool,
    of_all_clients: bool,
) -> Result<Vec<LeaseEntry>> {
    let wanted = Selector::parse(&selector.join(",")).map_err(|error| {
        Fault::Usage(Error::invalid_argument(error).with_hint("write labels as board=rpi4,!spare"))
    })?;
    // The controller knows the equalities alone.
    let query = LeaseQuery { filter: wanted.equalities(), tags: tags.to_owned(), with_ended };
    let mut found = lab.leases(&query).await?;
    let own = lab.controller().identity().name();
    found.retain(|lease| {
        (of_all_clients || lease.client == own)
            && (with_ended || !lease.has_ended())
            && Selector::parse(&lease.selector).is_ok_and(|has| wanted.holds_for(&has))
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_a_sign_between() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
    }
}
