//! Devices of a lab: which client asks which controller, for which device.

mod choice;
pub(crate) mod command;
pub(crate) mod get;
mod leasing;
pub(crate) mod objects;
mod printed;
mod selector;
mod times;
pub(crate) mod token;
mod waiting;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_client::lab::{DialLimits, Lab, Wanted};
use jumpstarter_config::ClientConfig;

use crate::environment::Environment;
use crate::fault::{Fault, Result};

pub(crate) use choice::Choice;
pub(crate) use leasing::Leasing;

/// The options that name a client.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Who {
    /// Use the client with this alias in ~/.config/jumpstarter/clients [default: the current one]
    #[arg(long, value_name = "ALIAS", help_heading = "Client of a lab")]
    client: Option<String>,
    /// Use the client of this file
    #[arg(long, value_name = "FILE", help_heading = "Client of a lab")]
    client_config: Option<PathBuf>,
}

impl Who {
    /// Reads the client's configuration: the named one, else that of the environment, else the
    /// current one.
    pub(crate) fn config(&self, environment: &Environment) -> Result<ClientConfig> {
        let variable = |name: &str| environment.variable(name);
        Ok(ClientConfig::choose(self.client.as_deref(), self.client_config.as_deref(), variable)?)
    }
}

/// The heading of these options on a page of help.
pub(crate) const HEADING: &str = "Device of a lab";

/// The options that name a device of a lab.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) who: Who,
    /// A device whose exporter has these labels, such as board=rpi4
    #[arg(short = 'l', long, value_name = "LABELS", help_heading = HEADING)]
    selector: Vec<String>,
    /// The device of this exporter
    #[arg(short = 'n', long = "name", value_name = "EXPORTER", help_heading = HEADING)]
    exporter_name: Option<String>,
    /// The device of a lease that exists and that --selector and --name match; it is not released
    /// at the end
    #[arg(long, value_name = "LEASE", help_heading = HEADING)]
    lease: Option<String>,
    /// How long the device is wanted: seconds, or a time such as 30m, 1d3h or 01:30:00
    #[arg(long, value_name = "TIME", value_parser = times::duration, default_value = "30m", help_heading = HEADING)]
    duration: Duration,
    /// How long a device is waited for [default: that of the client's file, 2h]
    #[arg(long, value_name = "TIME", value_parser = times::duration, help_heading = HEADING)]
    acquisition_timeout: Option<Duration>,
    /// How long to lease other devices for if one cannot be reached; 0 gives up at once [default:
    /// that of the client's file, 5m]
    #[arg(long, value_name = "TIME", value_parser = times::duration, help_heading = HEADING)]
    retry_timeout: Option<Duration>,
    /// How long one connection waits for its exporter [default: that of the client's file, 60s]
    #[arg(long, value_name = "TIME", value_parser = times::duration, help_heading = HEADING)]
    dial_timeout: Option<Duration>,
}

impl Ask {
    /// The options that were given, for messages.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        [
            ("--client", self.who.client.is_some()),
            ("--client-config", self.who.client_config.is_some()),
            ("--selector", !self.selector.is_empty()),
            ("--name", self.exporter_name.is_some()),
            ("--lease", self.lease.is_some()),
            ("--acquisition-timeout", self.acquisition_timeout.is_some()),
            ("--retry-timeout", self.retry_timeout.is_some()),
            ("--dial-timeout", self.dial_timeout.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    /// The device that the command line names, if it names one of a lab.
    pub(crate) fn named(&self) -> Option<Choice> {
        let (selector, exporter) = (self.selector.join(","), self.exporter_name.clone());
        match (&self.lease, exporter) {
            (Some(lease), exporter) => {
                Some(Choice::Lease { name: lease.clone(), exporter, selector })
            }
            (None, Some(name)) => {
                Some(Choice::Wanted(Wanted::exporter(name).and_selector(selector)))
            }
            (None, None) => {
                (!selector.is_empty()).then(|| Choice::Wanted(Wanted::selector(selector)))
            }
        }
    }

    /// The device that the command line names, else the environment.
    pub(crate) fn choice(&self, environment: &Environment) -> Option<Choice> {
        let by_variables = || Wanted::from_variables(|name| environment.variable(name));
        self.named().or_else(|| by_variables().map(Choice::Wanted))
    }

    /// The client whose active lease is used if nothing names a device; `None` without a client.
    ///
    /// # Errors
    /// Those of its file, if options name it.
    pub(crate) fn some_client(&self, environment: &Environment) -> Result<Option<ClientConfig>> {
        match self.who.config(environment) {
            Ok(config) => Ok(Some(config)),
            Err(Fault::Failed(_)) if self.given().is_empty() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The lab of the client, for this device.
    ///
    /// # Errors
    /// Those of the client's file.
    pub(crate) fn leasing(
        &self,
        choice: Choice,
        config: &ClientConfig,
        environment: &Environment,
    ) -> Result<Leasing> {
        let dial = self.dial_timeout.unwrap_or(config.leases.dial_timeout);
        let limit = self.acquisition_timeout.unwrap_or(config.leases.acquisition_timeout);
        Ok(Leasing {
            lab: Lab::of_client(config)?.limits(DialLimits::within(dial)),
            choice,
            duration: self.duration,
            acquisition_limit: limit,
            retry_limit: self.retry_timeout.unwrap_or(config.leases.retry_timeout),
            environment: environment.clone(),
            tokens: token::Keeper::new(config.clone()),
        })
    }
}
