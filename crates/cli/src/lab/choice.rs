//! Which device a command uses: of a new lease, of one that is named, or of the only one.

use jumpstarter_client::lab::{Lab, LeaseEntry, LeaseQuery, Wanted};
use jumpstarter_driver_core::{Error, ResultExt};

use super::selector::Selector;
use super::times;
use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::print::line;
use crate::terminal;

/// A device of a lab, as a command line and the environment name it.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// Of a new lease, or of one that the environment names.
    Wanted(Wanted),
    /// Of this lease, whose exporter must have this name and these labels if they are named.
    Lease { name: String, exporter: Option<String>, selector: String },
    /// Of the client's active lease; of one that the user picks if there are several.
    Active,
}

impl Choice {
    /// Decides on the device.
    ///
    /// # Errors
    /// `FailedPrecondition` for a lease that does not match; a wrong command line without an active
    /// lease, and with several ones without a terminal.
    pub(super) async fn settle(&self, lab: &Lab, environment: &Environment) -> Result<Wanted> {
        match self {
            Self::Wanted(wanted) => Ok(wanted.clone()),
            Self::Lease { name, exporter, selector } => {
                check(lab, name, exporter.as_deref(), selector).await?;
                Ok(Wanted::existing(name))
            }
            Self::Active => Ok(Wanted::existing(active(lab, environment).await?)),
        }
    }
}

/// Checks that a lease is of that exporter, and of one with these labels.
async fn check(lab: &Lab, name: &str, exporter: Option<&str>, selector: &str) -> Result<()> {
    if exporter.is_none() && selector.is_empty() {
        return Ok(());
    }
    let wanted = Selector::of_option(selector)?;
    let lease = lab.lease_named(name).await?;
    let differs = |option: &str, asked: &str| {
        let about = about(&lease);
        let message = format!("the lease {name} ({about}) does not match {option} {asked}");
        let hint = format!("leave out {option} for this lease, or --lease for another one");
        Err(Error::failed_precondition(message).with_hint(hint).into())
    };
    let has = lease.exporter.as_deref().or(lease.exporter_name.as_deref());
    if let Some(exporter) = exporter
        && has != Some(exporter)
    {
        return differs("--name", exporter);
    }
    let matches = match &lease.exporter {
        _ if lease.selector == selector => true,
        Some(exporter) => wanted.matches(&lab.exporter(exporter, true).await?.labels),
        None => Selector::parse(&lease.selector).is_ok_and(|has| wanted.holds_for(&has)),
    };
    if matches { Ok(()) } else { differs("--selector", selector) }
}

/// The name of the client's active lease.
async fn active(lab: &Lab, environment: &Environment) -> Result<String> {
    let client = lab.controller().identity().name().to_owned();
    let listed = lab.leases(&LeaseQuery::default()).await;
    let mut own = listed.context("nothing names a device, so an active lease is looked for")?;
    own.retain(|lease| lease.client == client && !lease.has_ended());
    match own.as_slice() {
        [] => Err(Fault::usage(
            format!("which device? The client {client} has no active lease"),
            "add --selector LABELS or --name EXPORTER to lease one, or --lease LEASE",
        )),
        [only] => {
            let about = format!("using the lease {} ({})", only.name, about(only));
            environment.report(line(&about));
            Ok(only.name.clone())
        }
        several if terminal::is_interactive() => pick(several, environment).await,
        several => {
            let leases = several.iter().map(|lease| format!("\n{} ({})", lease.name, about(lease)));
            let message = format!("multiple active leases found:{}", leases.collect::<String>());
            Err(Fault::usage(message, "name one with --lease LEASE, or run this on a terminal"))
        }
    }
}

/// Lets the user pick a lease.
async fn pick(leases: &[LeaseEntry], environment: &Environment) -> Result<String> {
    let list = (1..).zip(leases).map(|(number, lease)| {
        format!("  {number}) {}\n     {}\n", line(&lease.name), line(&about(lease)))
    });
    let list: String = list.collect();
    environment.report(format_args!("Multiple active leases found:\n\n{list}"));
    let question = format!("Select a lease [1-{}]", leases.len());
    loop {
        let answer = terminal::ask_beside(&question, environment).await?;
        let lease = leases.iter().find(|lease| lease.name == answer);
        let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        if let Some(lease) = lease.or_else(|| leases.get(number?)) {
            return Ok(lease.name.clone());
        }
    }
}

/// What distinguishes a lease from others.
fn about(lease: &LeaseEntry) -> String {
    let exporter = lease.exporter.as_ref().or(lease.exporter_name.as_ref());
    // The controller writes `<none>` for a lease by an exporter's name.
    let selector = Some(&lease.selector).filter(|it| !["", "<none>"].contains(&it.as_str()));
    let parts = [
        exporter.map(|exporter| format!("exporter={exporter}")),
        selector.map(|selector| format!("selector={selector}")),
        lease.expires_at().map(|end| format!("expires {}", times::rfc3339(end))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
