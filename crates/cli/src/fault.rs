//! The one error type of `jmp` and `j`: why a command fails, and its exit code.

use std::io;

use clap::error::ErrorKind;
use jumpstarter_config::ConfigFaults;
use jumpstarter_driver_core::{Error, ErrorKind as Kind};
use jumpstarter_supervise::ExitStatus;
use serde_json::{Value, json};

use crate::environment::{Environment, Unread};
use crate::format::Format;
use crate::print;

/// The result of a command, or of a part of one.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

/// The command succeeded.
pub(crate) const SUCCESS: u8 = 0;
/// The device, or a driver, answered with an error; a file has faults.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong: an unknown path, verb, option or argument.
pub(crate) const USAGE: u8 = 2;
/// `j` cannot reach or open the device, or it lost the connection.
pub(crate) const UNREACHABLE: u8 = 3;
/// A controller refuses the exporter's token.
pub(crate) const REFUSED: u8 = 4;
/// Ctrl-C ended the command.
pub(crate) const INTERRUPTED: u8 = SIGNALLED + 2;
/// SIGTERM ended the command.
pub(crate) const TERMINATED: u8 = SIGNALLED + 15;
/// SIGHUP ended the command: its terminal closed.
pub(crate) const HUNG_UP: u8 = SIGNALLED + 1;
/// SIGQUIT ended the command.
pub(crate) const QUIT: u8 = SIGNALLED + 3;
/// The base of the exit codes for signals: the signal's number is added, as in shells.
pub(crate) const SIGNALLED: u8 = 128;

/// The exit code for a program's end, as shells report it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| i32::from(SIGNALLED) + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The parser refuses the command line, or the line asks for help.
    CommandLine(Box<clap::Error>),
    /// The command line parses, but is wrong.
    Usage(Error),
    /// An exporter file has faults. The text is a hint that applies to all of them.
    File(Box<ConfigFaults>, Option<String>),
    /// `j` cannot reach or open the device, or it lost the connection.
    Unreachable(Error),
    /// A controller refuses the exporter's token.
    Refused(Error),
    /// Any other error.
    Failed(Error),
    /// The reader of standard output closed its end (`jmp schema | head`).
    Unread,
}

impl Fault {
    /// A wrong command line, with a hint that says what to write.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage(Error::invalid_argument(message).with_hint(hint))
    }

    /// Turns an error of opening a device into [`Unreachable`](Self::Unreachable).
    pub(crate) fn while_opening(self) -> Self {
        match self {
            Self::Failed(error) => Self::Unreachable(error),
            Self::File(faults, _) => Self::Unreachable(Error::invalid_argument(format!(
                "the exporter file is not right\n{faults}"
            ))),
            fault => fault,
        }
    }

    /// The exit code of the command.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::CommandLine(usage) if !usage.use_stderr() => SUCCESS,
            Self::CommandLine(_) | Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Refused(_) => REFUSED,
            Self::File(..) | Self::Failed(_) => FAILURE,
            Self::Unread => SUCCESS,
        }
    }

    /// Prints the fault: help on standard output, everything else on standard error, as text or as
    /// one JSON object `{"error", "kind", "hint"}`.
    fn print(&self, format: Format, environment: &Environment) -> io::Result<()> {
        match (self, format) {
            (Self::Unread, _) => {}
            (Self::CommandLine(usage), format) if format == Format::Text || !usage.use_stderr() => {
                print::usage(usage, environment)?;
            }
            (Self::CommandLine(usage), _) => environment.report(as_json(&of_usage(usage))),
            (Self::File(faults, hint), Format::Text) => {
                environment.report(faults);
                if let Some(hint) = hint {
                    environment.report(format_args!("hint: {hint}"));
                }
            }
            (Self::File(faults, hint), Format::Json) => {
                let error = Error::invalid_argument(faults.to_string().trim_end());
                environment.report(as_json(&match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }));
            }
            (
                Self::Usage(error)
                | Self::Unreachable(error)
                | Self::Refused(error)
                | Self::Failed(error),
                format,
            ) => {
                environment.report(match format {
                    Format::Text => print::report(error),
                    Format::Json => as_json(error),
                });
            }
        }
        Ok(())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.get_ref().is_some_and(|inner| inner.is::<Unread>()) {
            true => Self::Unread,
            false => Self::Failed(error.into()),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(Error::internal("writing JSON").with_source(error))
    }
}

impl From<clap::Error> for Fault {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(Box::new(print::on_its_line(error)))
    }
}

/// Prints why a command failed, if it did, and returns the exit code.
pub(crate) fn conclude(outcome: Result<u8>, format: Format, environment: &Environment) -> u8 {
    outcome.unwrap_or_else(|fault| {
        // The log comes before the error that it explains.
        jumpstarter_daemon::Log::flush();
        match fault.print(format, environment) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => FAILURE,
            _ => fault.code(),
        }
    })
}

fn as_json(error: &Error) -> String {
    let kind = format!("{:?}", error.kind());
    let value: Value = json!({"error": format!("{error:#}"), "kind": kind, "hint": error.hint()});
    jumpstarter_text::json(&value.to_string()).into_owned()
}

/// The parser's message, without its layout.
fn of_usage(usage: &clap::Error) -> Error {
    const HELP: &str = "`--help` shows what can be written there";
    if let ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =
        usage.kind()
    {
        return Error::new(
            Kind::InvalidArgument,
            "the command line is incomplete: a command is missing",
        )
        .with_hint(HELP);
    }
    let text = print::usage_text(usage);
    let mut paragraphs = text.split("\n\n");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = words(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let hint = print::hint_of(usage).map(str::to_owned).or_else(|| tip.map(words));
    Error::invalid_argument(message).with_hint(hint.unwrap_or_else(|| HELP.to_owned()))
}
