//! What upstream's commands take for a controller. Controllers are not supported yet: each option
//! and command fails and says so.

use std::ffi::OsString;
use std::io::Write;

use jumpstarter_driver_core::{Error, suggest};

use crate::fault::Result;

/// Options of `jmp shell` that ask a controller for a device.
#[derive(Debug, clap::Args)]
pub(crate) struct Controller {
    #[arg(long, hide = true, value_name = "ALIAS")]
    client: Option<OsString>,
    #[arg(long, hide = true, value_name = "FILE")]
    client_config: Option<OsString>,
    #[arg(short = 'l', long, hide = true, value_name = "LABELS")]
    selector: Vec<OsString>,
    #[arg(short = 'n', long, hide = true, value_name = "EXPORTER")]
    name: Option<OsString>,
    #[arg(long, hide = true, value_name = "LEASE")]
    lease: Option<OsString>,
    #[arg(long, hide = true, value_name = "TIME")]
    duration: Option<OsString>,
    #[arg(long, hide = true, value_name = "TIME")]
    acquisition_timeout: Option<OsString>,
    #[arg(long, hide = true, value_name = "TIME")]
    retry_timeout: Option<OsString>,
    #[arg(long, hide = true, value_name = "TIME")]
    dial_timeout: Option<OsString>,
}

impl Controller {
    /// The options that were given.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--client", self.client.is_some()),
            ("--client-config", self.client_config.is_some()),
            ("--selector", !self.selector.is_empty()),
            ("--name", self.name.is_some()),
            ("--lease", self.lease.is_some()),
            ("--duration", self.duration.is_some()),
            ("--acquisition-timeout", self.acquisition_timeout.is_some()),
            ("--retry-timeout", self.retry_timeout.is_some()),
            ("--dial-timeout", self.dial_timeout.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    /// Fails if these options are the only way to a device. Beside another way they have no effect,
    /// as upstream.
    pub(crate) fn check(&self, has_device: bool, err: &mut dyn Write) -> Result<()> {
        let given = self.given();
        if given.is_empty() {
            return Ok(());
        }
        let names = suggest::list(given.iter().copied());
        if has_device {
            writeln!(err, "warning: {names} only work with a controller, and have no effect here")?;
            return Ok(());
        }
        Err(unsupported(&format!("reaching a device through a controller ({names})")).into())
    }
}

/// The error for what needs a controller.
fn unsupported(what: &str) -> Error {
    Error::unimplemented(format!("{what} is not supported yet")).with_hint(
        "name an exporter file with --exporter-config FILE or --exporter ALIAS, or an exporter that listens with \
         --tls-grpc HOST:PORT",
    )
}

/// The error for a command that only upstream has; `None` for any other word.
pub(crate) fn command(name: &str) -> Option<Error> {
    let instead = match name {
        "version" => "run `jmp --version`",
        "driver" => "run `jmp drivers`",
        "exporter" | "exporters" => {
            "`jmp config exporter` manages exporter files, `jmp run` serves the device of one"
        }
        "serve" | "start" => "run `jmp run FILE`",
        "login" | "get" | "create" | "delete" | "update" | "admin" | "mcp" => {
            return Some(unsupported(&format!("`jmp {name}`, which works with a controller,")));
        }
        _ => return None,
    };
    Some(Error::unimplemented(format!("there is no `jmp {name}` here")).with_hint(instead))
}
