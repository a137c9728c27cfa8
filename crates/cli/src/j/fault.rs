//! What went wrong, for the user, and the exit codes.

use std::io;

use clap::error::ErrorKind;
use jumpstarter_driver_core::Error;
use serde_json::json;

use crate::arguments::Format;
use crate::print;

/// All is well.
pub(crate) const SUCCESS: u8 = 0;
/// The device, or a driver, answered with an error.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong: an unknown path, verb, option or form.
pub(crate) const USAGE: u8 = 2;
/// The device cannot be reached or opened, or the connection to it was lost.
pub(crate) const UNREACHABLE: u8 = 3;
/// Ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM.
pub(crate) const TERMINATED: u8 = 143;

/// The same, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    all is well
  1    the device, or one of its drivers, answered with an error
  2    the command line is wrong: an unknown path, command, option or form
  3    the device cannot be reached or opened, or the connection to it was lost
  130  ended by Ctrl-C (143 by SIGTERM); the call was cancelled on the device";

/// An error whose exit code is not [`FAILURE`].
#[derive(Debug)]
pub(crate) enum Fault {
    /// See [`USAGE`].
    Usage(Error),
    /// See [`UNREACHABLE`].
    Unreachable(Error),
}

impl Fault {
    /// A wrong command line, and what would be right.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Self::Usage(Error::invalid_argument(message).with_hint(hint)).into()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(error) | Self::Unreachable(error)) = self;
        write!(f, "{error:#}")
    }
}

impl std::error::Error for Fault {}

/// Tells standard error, as text or as one JSON object, and answers the exit code.
pub(crate) fn tell(error: &anyhow::Error, format: Format) -> u8 {
    if error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return SUCCESS;
    }
    // The log comes before what it led to.
    jumpstarter_daemon::Log::flush();
    let (code, error) = match error.downcast_ref::<Fault>() {
        Some(Fault::Usage(error)) => (USAGE, Ok(error)),
        Some(Fault::Unreachable(error)) => (UNREACHABLE, Ok(error)),
        None => (FAILURE, error.downcast_ref::<Error>().ok_or(error)),
    };
    print::err(told(error, format));
    code
}

/// An error as text, or as one JSON object: {"error", "kind", "hint"}.
pub(crate) fn told(error: Result<&Error, &anyhow::Error>, format: Format) -> String {
    match (format, error) {
        (Format::Text, Ok(error)) => print::report(error),
        (Format::Text, Err(error)) => print::failure(format_args!("{error:#}")),
        (Format::Json, Ok(error)) => {
            let kind = format!("{:?}", error.kind());
            as_json(&json!({"error": format!("{error:#}"), "kind": kind, "hint": error.hint()}))
        }
        (Format::Json, Err(error)) => {
            as_json(&json!({"error": format!("{error:#}"), "kind": null, "hint": null}))
        }
    }
}

fn as_json(value: &serde_json::Value) -> String {
    jumpstarter_text::json(&value.to_string()).into_owned()
}

/// Tells standard error.
pub(crate) fn note(text: &impl std::fmt::Display) {
    print::err(text);
}

/// Prints what the parser of command lines says, which may be the help that was asked for, and
/// answers the exit code.
pub(crate) fn usage(usage: &clap::Error, format: Format) -> u8 {
    if format == Format::Json && usage.use_stderr() {
        return tell(&of_usage(usage), format);
    }
    print::usage(usage);
    u8::try_from(usage.exit_code()).unwrap_or(USAGE)
}

/// What the parser says, without its layout.
fn of_usage(usage: &clap::Error) -> anyhow::Error {
    const HELP: &str = "`--help` shows what can be written there";
    if let ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =
        usage.kind()
    {
        return Fault::usage(
            "the command line ends too early: a driver or a verb is missing",
            HELP,
        );
    }
    let text = usage.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = words(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let hint = print::hint_of(usage).map(str::to_owned).or_else(|| tip.map(words));
    Fault::usage(message, hint.unwrap_or_else(|| HELP.to_owned()))
}
