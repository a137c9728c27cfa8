//! `jmp create`, `jmp update` and `jmp delete`: the leases of a lab.

use std::io::Write;
use std::time::{Duration, SystemTime};

use jumpstarter_client::lab::{Lab, Wanted};
use jumpstarter_driver_core::Error;
use serde_json::json;

use super::command::{Common, LabCommand};
use super::get::find;
use super::printed::{Form, leases};
use super::times;
use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::print;

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
    /// Lease an exporter with these labels, such as board=rpi4
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// Lease the exporter with this name
    #[arg(short = 'n', long = "name", value_name = "EXPORTER")]
    exporter: Option<String>,
    /// How long the lease lasts: seconds, or a time such as 30m or 1d3h
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    duration: Duration,
    /// When the lease begins, such as 2026-12-24T12:00:00Z [default: at once]
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    begin_time: Option<SystemTime>,
    /// The name of the lease [default: one that the controller makes]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    lease_id: String,
    /// A label of the lease itself, by which `jmp get leases --tag-filter` finds it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// A text for the exporter
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// Lease a disabled exporter, too
    #[arg(long)]
    allow_disabled: bool,
    #[command(flatten)]
    common: Common,
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
    /// The name of the lease, as in `jmp get leases`
    #[arg(value_name = "LEASE")]
    name: String,
    /// How long the lease lasts, from its beginning
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    duration: Option<Duration>,
    /// When the lease begins
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    begin_time: Option<SystemTime>,
    /// The client that gets the lease
    #[arg(long, value_name = "CLIENT")]
    to_client: Option<String>,
    #[command(flatten)]
    common: Common,
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
    /// The names of the leases
    #[arg(value_name = "LEASE")]
    names: Vec<String>,
    /// End own leases with these labels in their selector
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// End all own leases
    #[arg(short = 'a', long)]
    all: bool,
    /// End leases of other clients, too
    #[arg(short = 'A', long)]
    all_clients: bool,
    #[command(flatten)]
    common: Common,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl LabCommand for Create {
    fn common(&self) -> &Common {
        let CreateWhat::Lease(arguments) = &self.what;
        &arguments.common
    }

    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let CreateWhat::Lease(arguments) = &self.what;
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
        leases().print(&[lease], true, arguments.common.output, environment)
    }
}

impl LabCommand for Update {
    fn common(&self) -> &Common {
        let UpdateWhat::Lease(arguments) = &self.what;
        &arguments.common
    }

    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let UpdateWhat::Lease(arguments) = &self.what;
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
        leases().print(&[lease], true, arguments.common.output, environment)
    }
}

impl LabCommand for Delete {
    fn common(&self) -> &Common {
        let DeleteWhat::Leases(arguments) = &self.what;
        &arguments.common
    }

    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8> {
        let DeleteWhat::Leases(arguments) = &self.what;
        arguments.run(lab, environment).await
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
            match self.common.output {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_a_sign_between() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
    }
}
