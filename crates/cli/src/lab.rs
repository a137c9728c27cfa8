//! Devices of a lab: which client asks which controller, for which device.

pub(crate) mod objects;
mod printed;
mod selector;
mod times;

use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_client::lab::{DialLimits, Lab, Wanted};
use jumpstarter_config::{ClientConfig, GrpcOption};
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};

use crate::environment::Environment;
use crate::fault::{Fault, Result};

/// The options that name a client.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Who {
    /// The client of a controller, by its alias in ~/.config/jumpstarter/clients; by default the
    /// current one
    #[arg(long, value_name = "ALIAS")]
    client: Option<String>,
    /// The file of a client
    #[arg(long, value_name = "FILE")]
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

/// The lab of a client.
pub(crate) fn lab(config: &ClientConfig, dial: Option<Duration>) -> Result<Lab> {
    let endpoint = config.endpoint.as_deref().unwrap_or_default().parse()?;
    let token = config.token.clone().ok_or_else(|| {
        let message = format!("the client {} has no token", config.alias);
        Fault::Failed(
            jumpstarter_driver_core::Error::unauthenticated(message)
                .with_hint("log in with `jmp login`, or ask who runs the lab for a token"),
        )
    })?;
    let (namespace, name) = (&config.metadata.namespace, &config.metadata.name);
    let identity = Identity::client(namespace.clone().unwrap_or_default(), name, token);
    let trust = Trust::of_settings(&config.tls.ca, config.tls.insecure)?;
    let arguments = config.grpc_options.iter().filter_map(|(name, value)| match value {
        GrpcOption::Number(value) => Some((name.as_str(), *value)),
        _ => None,
    });
    let options = ControllerOptions::new(endpoint, identity).trust(trust);
    let controller = Controller::new(options.channel_arguments(arguments))?;
    let limit = dial.unwrap_or(config.leases.dial_timeout);
    Ok(Lab::new(controller).limits(DialLimits::within(limit)))
}

/// The options that name a device of a lab.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) who: Who,
    /// A device whose exporter has these labels, such as board=rpi4
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Vec<String>,
    /// The device of this exporter
    #[arg(short = 'n', long = "name", value_name = "EXPORTER")]
    exporter_name: Option<String>,
    /// The device of a lease that exists; it is not released at the end
    #[arg(long, value_name = "LEASE")]
    lease: Option<String>,
    /// How long the device is wanted: seconds, or a time such as 30m, 1d3h or 01:30:00
    #[arg(long, value_name = "TIME", value_parser = times::duration, default_value = "30m")]
    duration: Duration,
    /// How long a device is waited for [default: that of the client's file, 2h]
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    acquisition_timeout: Option<Duration>,
    /// How long another device is tried for when one cannot be reached; 0 gives up at once
    /// [default: that of the client's file, 5m]
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    retry_timeout: Option<Duration>,
    /// How long one connection waits for its exporter [default: that of the client's file, 60s]
    #[arg(long, value_name = "TIME", value_parser = times::duration)]
    dial_timeout: Option<Duration>,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A lease that exists.
    Existing(String),
    /// A new one.
    New(Box<Wanted>),
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

    /// The lab that is asked.
    pub(crate) fn lab(&self, config: &ClientConfig) -> Result<Lab> {
        lab(config, self.dial_timeout)
    }

    /// How long a device is waited for.
    pub(crate) fn acquisition_limit(&self, config: &ClientConfig) -> Duration {
        self.acquisition_timeout.unwrap_or(config.leases.acquisition_timeout)
    }

    /// How long another device is tried for.
    pub(crate) fn retry_limit(&self, config: &ClientConfig) -> Duration {
        self.retry_timeout.unwrap_or(config.leases.retry_timeout)
    }

    /// The named device: a lease, labels or an exporter; `None` without any of them.
    pub(crate) fn asked(&self, config: &ClientConfig, environment: &Environment) -> Option<Asked> {
        let variable = || {
            let value = environment.variable("JMP_LEASE")?.into_string().ok()?;
            (!value.is_empty()).then_some(value)
        };
        let is_new = !self.selector.is_empty() || self.exporter_name.is_some();
        let lease = self.lease.clone().or_else(|| if is_new { None } else { variable() });
        if let Some(lease) = lease {
            return Some(Asked::Existing(lease));
        }
        let selector = self.selector.join(",");
        let wanted = match &self.exporter_name {
            Some(name) => Wanted::exporter(name).and_selector(selector),
            None if selector.is_empty() => return None,
            None => Wanted::selector(selector),
        };
        let limit = self.acquisition_limit(config);
        let wanted = wanted.duration(self.duration).acquisition_limit(limit);
        Some(Asked::New(Box::new(wanted)))
    }
}
