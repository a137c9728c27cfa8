//! The part of the command line that does not depend on the device.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{EnumValueParser, PathBufValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};
use tracing::Level;

use super::{builtin, complete, fault};
use crate::arguments::Format;
use crate::print::line;

/// What must be known before the device is opened.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) exporter_config: Option<PathBuf>,
    pub(crate) log_level: Level,
    pub(crate) needs_no_device: bool,
    /// `--exporter-config` stands where the path's words are.
    pub(crate) is_file_late: bool,
    /// Only the help of `j` itself is wanted.
    pub(crate) is_help: bool,
    pub(crate) output: Format,
}

/// `j` with its options, without commands.
pub(crate) fn base() -> Command {
    Command::new("j")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Use a device: its commands are those of the device's tree")
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand_value_name("PATH… VERB")
        .after_help(format!("{EXAMPLES}\n\n{}", fault::EXIT_CODES))
        .arg(
            Arg::new("exporter-config")
                .long("exporter-config")
                .value_name("FILE")
                .value_parser(PathBufValueParser::new())
                .help(
                    "Open the device of this exporter file in this process, for this one command",
                ),
        )
        .arg(
            Arg::new("log-level")
                .long("log-level")
                .value_name("LEVEL")
                .ignore_case(true)
                .default_value("warning")
                .value_parser(["debug", "info", "warning", "error", "critical"])
                .help("The least severe records of this process that go to standard error"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FORMAT")
                .value_parser(EnumValueParser::<Format>::new())
                .default_value("text")
                .global(true)
                .help("How answers are printed; json is one value a line, errors too"),
        )
}

const EXAMPLES: &str = "\
The device is the exporter's at JUMPSTARTER_HOST (which `jmp shell` sets), else that of the exporter
file JMP_EXPORTER_CONFIG, which each command then opens and closes again; `--help` does without.

Examples:
  j tree                           what the device is made of
  j power on                       say a verb to a driver
  j qemu power cycle --wait 5      a driver below another one; `j qemu.power cycle` is the same
  j qemu power --help              what a driver can do
  j call qemu.power on             call any method by its name
  jmp shell --exporter lab -- j power on";

/// Reads what must be known early; the rest is not looked at.
pub(crate) fn scan(arguments: &[OsString]) -> Result<Early, clap::Error> {
    let command = base()
        .allow_external_subcommands(true)
        .subcommand_required(false)
        .arg_required_else_help(false)
        .disable_help_flag(true)
        .arg(Arg::new("help").short('h').long("help").action(clap::ArgAction::SetTrue));
    let matches = command.try_get_matches_from(arguments)?;
    let later = match matches.subcommand() {
        Some((_, rest)) => rest.get_many::<OsString>("").into_iter().flatten().cloned().collect(),
        None => Vec::new(),
    };
    let output = match wanted_output(&later) {
        Format::Text => output(&matches),
        json => json,
    };
    let is_file_option = |word: &OsString| {
        word.to_str().is_some_and(|word| {
            word == "--exporter-config" || word.starts_with("--exporter-config=")
        })
    };
    Ok(Early {
        is_file_late: later.iter().any(is_file_option),
        log_level: level(&matches),
        needs_no_device: matches.subcommand_name() == Some(builtin::COMPLETIONS),
        is_help: matches.get_flag("help"),
        exporter_config: matches.get_one::<PathBuf>("exporter-config").cloned(),
        output,
    })
}

/// The format that these words ask for, also where they are wrong otherwise.
pub(crate) fn wanted_output(words: &[OsString]) -> Format {
    let json = words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
        || words.iter().any(|word| word == "--output=json");
    if json { Format::Json } else { Format::Text }
}

/// The format that was asked for.
pub(crate) fn output(matches: &ArgMatches) -> Format {
    matches.try_get_one("output").ok().flatten().copied().unwrap_or_default()
}

fn level(matches: &ArgMatches) -> Level {
    match matches.get_one::<String>("log-level").map(|level| level.to_lowercase()).as_deref() {
        Some("debug") => Level::DEBUG,
        Some("info") => Level::INFO,
        Some("error" | "critical") => Level::ERROR,
        _ => Level::WARN,
    }
}

/// `j` with the commands that every device has.
pub(crate) fn deviceless() -> Command {
    base().subcommands(builtin::ALL.iter().map(|verb| verb.plain_command()))
}

/// Does what needs no device.
pub(crate) fn without_device(arguments: &[OsString]) -> Result<u8> {
    let matches = match deviceless().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(usage) => return Ok(fault::usage(&usage, wanted_output(arguments))),
    };
    match matches.subcommand() {
        Some((builtin::COMPLETIONS, matches)) => complete::registration(matches),
        _ => anyhow::bail!("this needs a device"),
    }
}

/// Prints the help that was asked for and answers the exit code; nothing for anything else.
pub(crate) fn help_without_device(
    arguments: &[OsString],
    why: &dyn std::fmt::Display,
) -> Option<u8> {
    let usage = deviceless().try_get_matches_from(arguments).err()?;
    if usage.kind() != ErrorKind::DisplayHelp {
        return None;
    }
    let code = fault::usage(&usage, Format::Text);
    fault::note(&format!("\nThe device's own commands are not shown: {}", line(&why.to_string())));
    Some(code)
}
