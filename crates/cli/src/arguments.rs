//! The command line: which command, with what.

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand, ValueEnum};
use jumpstarter_driver_core::Error;

use crate::serving::Log;
use crate::{check, config, controller, drivers, forward, j, packaging, run, schema, shell};

/// Test on real and virtual devices.
///
/// A device is a tree of drivers. An exporter file, in YAML, says which.
#[derive(Debug, Parser)]
#[command(name = "jmp", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  jmp drivers                     which drivers there are
  jmp drivers tcp                 what one of them does and how it is configured
  jmp check lab.yaml              whether a file is right, and what is wrong with it
  jmp run lab.yaml --tls-grpc-listener 1234 --tls-grpc-insecure
                                  serve the device of a file
  jmp shell --exporter-config lab.yaml j power on
                                  run a command that reaches it
  jmp j tree                      what the device that JUMPSTARTER_HOST names is made of
  jmp schema > exporter.json      the schema of exporter files, for editors

A first file:
  export:
    web:
      type: tcp
      config: {host: localhost, port: 8080}

Exit codes:
  0  all is well
  1  a file has faults, or the command failed
  2  the command line is wrong
  `jmp shell` answers with its command's own code (128 and the signal's number, if a signal ended it),
  `jmp j` with those that `j --help` lists";

/// A command of `jmp`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Arguments),
    #[command(alias = "completion")]
    Completions(packaging::Completions),
    Config(config::Arguments),
    Drivers(drivers::Arguments),
    Forward(Box<forward::Arguments>),
    /// Use a device: `jmp j` is the same as `j`
    #[command(disable_help_flag = true, disable_version_flag = true)]
    J {
        /// What `j` is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    #[command(hide = true)]
    Manual(packaging::Manual),
    Run(Box<run::Arguments>),
    Schema(schema::Arguments),
    Shell(Box<shell::Arguments>),
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Reads a command line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments)
}

/// What is said of a command of upstream's `jmp` that this one has not.
pub(crate) fn of_upstream(usage: &clap::Error) -> Option<Error> {
    match usage.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => controller::command(name),
        _ => None,
    }
}

impl Arguments {
    /// How the command prints, its errors too.
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            Command::Check(arguments) => arguments.output,
            Command::Drivers(arguments) => arguments.output,
            Command::Forward(arguments) => arguments.output,
            _ => Format::Text,
        }
    }

    /// Runs the command and answers the exit code.
    pub(crate) fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
        let log = &self.log;
        match &self.command {
            Command::Check(arguments) => check::run(arguments, out, err),
            Command::Completions(arguments) => packaging::completions(arguments, out),
            Command::Manual(arguments) => packaging::manual(arguments),
            Command::Config(arguments) => config::run(arguments, out, err),
            Command::Drivers(arguments) => drivers::run(arguments, out),
            Command::Forward(arguments) => forward::run(arguments, log, out, err),
            Command::J { arguments } => {
                let program = std::iter::once(OsString::from("j"));
                Ok(j::run(program.chain(log.words()).chain(arguments.iter().cloned()).collect()))
            }
            Command::Run(arguments) => run::run(arguments, log, out, err),
            Command::Schema(arguments) => schema::run(arguments, out),
            Command::Shell(arguments) => shell::run(arguments, log, err),
        }
    }
}
