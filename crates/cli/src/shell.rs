//! `jmp shell`: runs a command that reaches a device.

mod command;
mod lab;
mod prompt;
mod remote;

use std::ffi::OsString;
use std::path::Path;

use jumpstarter_daemon::Served;

use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::serving::{Log, runtime};
use crate::target::{Found, Target};
use command::Surroundings;

/// Run a command, or a shell, in which `j` and scripts reach a device
///
/// `jmp shell` serves the device of a file at a private socket while the command runs. For a remote
/// device it waits until the exporter takes calls. A device of a lab is leased for the command, and
/// given back at its end; if nothing names a device, the client's active lease is used, and kept.
/// The exit code is the command's; 255 if the lease ended first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp shell --exporter-config lab.yaml j power on
  jmp shell --exporter lab -- pytest tests/
  jmp shell --tls-grpc lab.example:1234 --tls-ca lab-ca.pem --exporter-logs
  jmp shell -l board=rpi4 --duration 2h pytest tests/

The command's environment has JUMPSTARTER_HOST and the other variables that clients need to connect. If PATH
has no `j`, this program's `j` is added. --exporter-logs shows the device's log; without it, only warnings and
errors of a device that is opened here are shown.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Show the exporter's log while the command runs
    #[arg(long)]
    exporter_logs: bool,
    #[command(flatten)]
    log: Log,
    /// The command and its arguments, after all options of `jmp shell` or after `--`; without one,
    /// a shell
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments, log: &Log, environment: &Environment) -> Result<u8> {
    let words = &arguments.command;
    let (target, ask) = (&arguments.target, &arguments.target.ask);
    if target.is_given() {
        target.warn_of_lab(environment);
    } else if let Some(file) = words.first().filter(|word| is_exporter_file(Path::new(word))) {
        let file = file.display();
        let hint = format!("write `jmp shell --exporter-config {file}`, and the command after it");
        return Err(Fault::usage("which device?", hint));
    } else {
        let Some(config) = ask.some_client(environment)? else {
            target.find_given(environment, &mut environment.err())?;
            return Err(Fault::usage("which device?", WHICH));
        };
        arguments.log.install_quietly(log)?;
        let shell = lab::Shell::new(arguments.exporter_logs, words, environment);
        return runtime()?.block_on(shell.run(ask, &config));
    }
    let found = target.find_given(environment, &mut environment.err())?;
    let logs = arguments.log.install(log)?;
    let config = match found {
        Found::File(config) => config,
        Found::Exporter(options) => {
            let (remote, show_logs) = (target.remote(), arguments.exporter_logs);
            let shell = remote::shell(&options, remote, show_logs, words, environment);
            return Ok(runtime()?.block_on(shell)?);
        }
        // The command line names a device without a lab.
        Found::Leased(_) => return Err(Fault::usage("which device?", WHICH)),
    };
    if arguments.exporter_logs {
        logs.show_all();
    }
    let command = |served: Served| {
        let mut surroundings = Surroundings::new(served.socket, "local", served.motd);
        surroundings.exporter = served.name;
        async move { surroundings.run(words, environment).await }
    };
    Ok(runtime()?.block_on(jumpstarter_daemon::shell(&config, &logs, command))?)
}

/// How a device is named.
const WHICH: &str =
    "add --exporter-config FILE or --exporter ALIAS, or --selector LABELS for a device of a lab";

/// Whether a word in the place of the command is an exporter file.
fn is_exporter_file(word: &Path) -> bool {
    word.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        && word.is_file()
}
