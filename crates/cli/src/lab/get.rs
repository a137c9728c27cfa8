//! `jmp get`: the exporters and leases of a lab.

use clap::ValueEnum;
use jumpstarter_client::lab::{ExporterEntry, Lab, LeaseEntry, LeaseQuery};
use serde_json::{Value, json};

use super::command::{Common, LabCommand};
use super::printed::{Form, Objects, lease_json, leases, pairs, yes};
use super::selector::Selector;
use super::times;
use crate::environment::Environment;
use crate::fault::Result;

/// List the exporters or the leases of a lab
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp get exporters --with leases,status
  jmp get leases -l board=rpi4 -o json
  jmp get leases --all-clients --watch")]
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

impl LabCommand for Get {
    fn common(&self) -> &Common {
        match &self.what {
            GetWhat::Exporters(arguments) => &arguments.common,
            GetWhat::Leases(arguments) => &arguments.common,
        }
    }

    fn goes_on(&self) -> bool {
        match &self.what {
            GetWhat::Exporters(arguments) => arguments.watch,
            GetWhat::Leases(arguments) => arguments.watch,
        }
    }

    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        match &self.what {
            GetWhat::Exporters(arguments) => arguments.perform(lab, environment).await,
            GetWhat::Leases(arguments) => arguments.perform(lab, environment).await,
        }
    }
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
    /// List only this exporter
    #[arg(value_name = "EXPORTER")]
    name: Option<String>,
    /// List only exporters with these labels, such as board=rpi4
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// Show these columns, too
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    with: Vec<With>,
    /// List disabled exporters, too
    #[arg(long)]
    allow_disabled: bool,
    /// Show the labels that the controller hides, too
    #[arg(long)]
    show_hidden_labels: bool,
    /// Go on with a line for each change, until Ctrl-C
    #[arg(short = 'w', long)]
    watch: bool,
    /// Exporters in one answer of the controller; all of them are listed
    #[arg(long, hide = true)]
    page_size: Option<u32>,
    #[command(flatten)]
    common: Common,
}

/// An exporter, and the lease that has it if leases are shown.
struct Shown {
    exporter: ExporterEntry,
    lease: Option<LeaseEntry>,
}

impl Exporters {
    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let form = self.common.output;
        let objects = Objects {
            plural: "exporters",
            head: self.head(),
            name: |shown: &Shown| &shown.exporter.name,
            json: Box::new(|shown| self.json(shown)),
            row: Box::new(|shown| self.row(shown)),
        };
        if self.watch {
            let again = async |_: &Shown| None;
            return objects.watch(|| self.find(lab), again, form, environment).await;
        }
        objects.print(&self.find(lab).await?, self.name.is_some(), form, environment)
    }

    async fn find(&self, lab: &Lab) -> Result<Vec<Shown>> {
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
        let shown = found.into_iter().map(|exporter| {
            let has = |lease: &&LeaseEntry| lease.exporter.as_ref() == Some(&exporter.name);
            Shown { lease: leases.iter().find(has).cloned(), exporter }
        });
        Ok(shown.collect())
    }

    fn shows(&self, what: With) -> bool {
        self.with.contains(&what) || self.common.output == Form::Wide
    }

    fn json(&self, Shown { exporter, lease }: &Shown) -> Value {
        let mut value = json!({
            "namespace": exporter.namespace, "name": exporter.name,
            "labels": exporter.labels, "deprecated_labels": exporter.deprecated_labels,
        });
        if self.with.contains(&With::Leases) {
            value["lease"] = lease.as_ref().map_or(Value::Null, lease_json);
        }
        if self.with.contains(&With::Online) {
            value["online"] = exporter.is_online.into();
        }
        if self.with.contains(&With::Status) {
            value["status"] = exporter.status.clone().into();
        }
        value
    }

    fn head(&self) -> Vec<&'static str> {
        let mut head = vec!["NAME"];
        head.extend(self.allow_disabled.then_some("ENABLED"));
        head.extend(self.shows(With::Online).then_some("ONLINE"));
        head.extend(self.shows(With::Status).then_some("STATUS"));
        head.push("LABELS");
        if self.with.contains(&With::Leases) {
            head.extend(["LEASED BY", "LEASE STATUS", "RELEASE TIME"]);
        }
        head
    }

    fn row(&self, Shown { exporter, lease }: &Shown) -> Vec<String> {
        let mut row = vec![exporter.name.clone()];
        row.extend(self.allow_disabled.then(|| yes(exporter.is_enabled != Some(false))));
        row.extend(self.shows(With::Online).then(|| yes(exporter.is_online)));
        row.extend(self.shows(With::Status).then(|| exporter.status.clone()));
        row.push(pairs(&exporter.labels));
        if self.with.contains(&With::Leases) {
            let lease = lease.as_ref();
            row.push(lease.map(|lease| lease.client.clone()).unwrap_or_default());
            row.push(lease.map_or("Available", |_| "Leased").to_owned());
            let end = lease.and_then(LeaseEntry::expires_at);
            row.push(end.map(times::rfc3339).unwrap_or_default());
        }
        row
    }
}

/// List leases
#[derive(Debug, clap::Args)]
struct Leases {
    /// List only this lease
    #[arg(value_name = "LEASE")]
    name: Option<String>,
    /// List only leases with these labels in their selector
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// List leases that have ended, too
    #[arg(short = 'a', long)]
    all: bool,
    /// List the leases of every client, instead of your own
    #[arg(short = 'A', long)]
    all_clients: bool,
    /// List only leases with these tags
    #[arg(long, value_name = "TAGS", default_value = "", hide_default_value = true)]
    tag_filter: String,
    /// Go on with a line for each change, until Ctrl-C; one that has ended has no time remaining
    #[arg(short = 'w', long)]
    watch: bool,
    /// Leases in one answer of the controller; all of them are listed
    #[arg(long, hide = true)]
    page_size: Option<u32>,
    #[command(flatten)]
    common: Common,
}

impl Leases {
    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let form = self.common.output;
        if self.watch {
            let again = async |lease: &LeaseEntry| lab.lease_named(&lease.name).await.ok();
            return leases().watch(|| self.find(lab), again, form, environment).await;
        }
        leases().print(&self.find(lab).await?, self.name.is_some(), form, environment)
    }

    async fn find(&self, lab: &Lab) -> Result<Vec<LeaseEntry>> {
        match &self.name {
            Some(name) => Ok(vec![lab.lease_named(name).await?]),
            None => find(lab, &self.selector, &self.tag_filter, self.all, self.all_clients).await,
        }
    }
}

/// The leases whose selectors have, or fulfil, every requirement of `selector`.
pub(super) async fn find(
    lab: &Lab,
    selector: &[String],
    tags: &str,
    with_ended: bool,
    of_all_clients: bool,
) -> Result<Vec<LeaseEntry>> {
    let wanted = Selector::of_option(&selector.join(","))?;
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
