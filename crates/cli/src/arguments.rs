//! The command line: which command, with what.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use jumpstarter_driver_core::Error;

use crate::environment::Environment;
use crate::fault::{self, Fault, Result};
use crate::format::Format;
use crate::lab::command::LabCommand as _;
use crate::lab::{get, objects};
use crate::serving::Log;
use crate::{
    auth, check, config, controller, doctor, drivers, forward, j, login, new, packaging, run,
    schema, shell, version,
};

/// Control real and virtual devices for tests.
///
/// An exporter file (YAML) describes a device: a tree of drivers.
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
  jmp drivers                     lists the drivers
  jmp drivers tcp                 shows a driver: its methods and configuration
  jmp check lab.yaml              checks a file, and prints its faults
  jmp run lab.yaml --tls-grpc-listener 1234 --tls-grpc-insecure
                                  serves the device of a file
  jmp shell --exporter-config lab.yaml j power on
                                  runs a command that uses the device
  jmp j tree                      shows the drivers of the device at JUMPSTARTER_HOST
  jmp new driver acme-relay       writes the crate of a new driver
  jmp schema > exporter.json      writes the schema of exporter files, for editors

A first file:
  export:
    web:
      type: tcp
      config: {host: localhost, port: 8080}

Exit codes:
  0  success
  1  a file has faults, or the command failed
  2  the command line is wrong
  `jmp shell` returns its command's code (128 and the signal's number if a signal ended it),
  `jmp j` returns the codes that `j --help` lists";

/// One variant for each command of `jmp`, with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Auth(auth::Arguments),
    Check(check::Arguments),
    #[command(alias = "completion")]
    Completions(packaging::Completions),
    #[command(alias = "conf")]
    Config(config::Arguments),
    #[command(visible_alias = "c")]
    Create(objects::Create),
    #[command(visible_aliases = ["del", "d"])]
    Delete(objects::Delete),
    Doctor(doctor::Arguments),
    /// List this program's drivers, in upstream's form: see `jmp drivers`
    #[command(subcommand, hide = true)]
    Driver(drivers::Command),
    Drivers(drivers::Arguments),
    Forward(Box<forward::Arguments>),
    #[command(visible_alias = "g")]
    Get(get::Get),
    /// Use a device: `jmp j` is the same as `j`
    #[command(disable_help_flag = true, disable_version_flag = true)]
    J {
        /// The arguments of `j`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    Login(Box<login::Arguments>),
    #[command(hide = true)]
    Manual(packaging::Manual),
    New(new::Arguments),
    Run(Box<run::Arguments>),
    Schema(schema::Arguments),
    #[command(visible_aliases = ["sh", "s"])]
    Shell(Box<shell::Arguments>),
    #[command(visible_alias = "u")]
    Update(objects::Update),
    #[command(visible_aliases = ["ver", "v"])]
    Version(version::Arguments),
}

/// Runs `jmp` and returns the exit code.
pub(crate) fn execute(words: &[OsString], environment: &Environment) -> u8 {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(usage) => {
            let fault = of_upstream(&usage).map_or_else(|| usage.into(), Fault::Failed);
            return fault::conclude(Err(fault), Format::of_words(words), environment);
        }
    };
    fault::conclude(arguments.run(environment), arguments.format(), environment)
}

/// The error for a command of upstream's `jmp` that this program lacks.
fn of_upstream(usage: &clap::Error) -> Option<Error> {
    match usage.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => controller::command(name),
        _ => None,
    }
}

impl Arguments {
    /// The format of the command's output and errors.
    fn format(&self) -> Format {
        match &self.command {
            Command::Check(arguments) => arguments.output,
            Command::Config(arguments) => arguments.format(),
            Command::Create(arguments) => arguments.format(),
            Command::Delete(arguments) => arguments.format(),
            Command::Get(arguments) => arguments.format(),
            Command::Update(arguments) => arguments.format(),
            Command::Doctor(arguments) => arguments.output,
            Command::Driver(command) => command.format(),
            Command::Drivers(arguments) => arguments.output,
            Command::Version(arguments) => arguments.format(),
            Command::Forward(arguments) => arguments.output,
            _ => Format::Text,
        }
    }

    /// Runs the command and returns the exit code.
    fn run(&self, environment: &Environment) -> Result<u8> {
        let log = &self.log;
        let (out, err) = (&mut environment.out(), &mut environment.err());
        match &self.command {
            Command::Auth(arguments) => auth::run(arguments, environment),
            Command::Check(arguments) => check::run(arguments, environment),
            Command::Completions(arguments) => {
                packaging::completions(arguments, Self::command(), out)
            }
            Command::Manual(arguments) => {
                packaging::manual(arguments, Self::command(), j::command())
            }
            Command::Config(arguments) => config::run(arguments, environment),
            Command::Create(arguments) => arguments.run(environment),
            Command::Delete(arguments) => arguments.run(environment),
            Command::Get(arguments) => arguments.run(environment),
            Command::Update(arguments) => arguments.run(environment),
            Command::Doctor(arguments) => doctor::run(arguments, environment),
            Command::Driver(command) => command.run(environment),
            Command::Drivers(arguments) => drivers::run(arguments, environment),
            Command::Forward(arguments) => forward::run(arguments, log, environment),
            Command::J { arguments } => {
                let words = std::iter::once("j".into()).chain(arguments.iter().cloned());
                Ok(j::run(&words.collect::<Vec<_>>(), Some(log), environment))
            }
            Command::Login(arguments) => login::run(arguments, log, environment),
            Command::New(arguments) => new::run(arguments, out),
            Command::Run(arguments) => run::run(arguments, log, out, err),
            Command::Schema(arguments) => schema::run(arguments, out),
            Command::Shell(arguments) => shell::run(arguments, log, environment),
            Command::Version(arguments) => version::run(arguments, out),
        }
    }
}

/// Writes the address of a listener. An IPv6 address gets its brackets.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `jmp` with these words and returns its exit code and standard output.
    fn run(words: &[&str]) -> (u8, String) {
        let (reader, writer) = std::io::pipe().unwrap();
        let words: Vec<OsString> =
            std::iter::once("jmp").chain(words.iter().copied()).map(Into::into).collect();
        let reading = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
        let code = execute(&words, &Environment::new(writer, std::io::sink(), |_| None));
        (code, reading.join().unwrap())
    }

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(&["manual", folder.path().to_str().unwrap()]).0, fault::SUCCESS);
        for (name, text) in [("jmp", "jmp run"), ("jmp-run", "grpc"), ("j", "output")] {
            let page = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.starts_with(".ie") && page.replace('\\', "").contains(text), "{page}");
        }
        assert!(!folder.path().join("jmp-manual.1").exists());
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let page = std::fs::read_to_string(file.unwrap().path()).unwrap().replace('\\', "");
            let references = page.split_whitespace().filter_map(|word| word.strip_suffix("(1)"));
            for name in references {
                assert!(folder.path().join(format!("{name}.1")).exists(), "{name}: {page}");
            }
        }
        assert!(folder.path().join("jmp-config-exporter-create.1").exists());
        assert!(folder.path().join("jmp-new-driver.1").exists());
        let missing = folder.path().join("missing");
        assert_eq!(run(&["manual", missing.to_str().unwrap()]).0, fault::FAILURE);
    }

    #[test]
    fn each_shell_has_a_script() {
        for shell in ["bash", "zsh", "fish"] {
            let (code, script) = run(&["completions", shell]);
            assert!(code == fault::SUCCESS && script.contains("drivers"), "{shell}");
        }
    }
}
