//! The options of `j`. They may stand anywhere: they are removed from the command line before the
//! device is known; the device's commands parse the rest.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, Args, Command, FromArgMatches};

use crate::fault::Result;
use crate::format::Format;
use crate::lab;
use crate::serving::Log;
use crate::target::Target;

/// The options that every command of `j` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) log: Log,
    /// How to print answers, text by default; json is one value a line, errors too
    // Has no default value, which would override `pipe`'s option of that name.
    #[arg(long, value_enum, value_name = "FORMAT", global = true)]
    pub(crate) output: Option<Format>,
}

/// The verb whose own option `--output` names a file.
const PIPE: &str = "pipe";

impl Options {
    /// Removes the options from a command line, and returns the rest. The format is right even if
    /// an option is wrong.
    pub(crate) fn take(words: &[OsString]) -> (Format, Result<(Self, Vec<OsString>)>) {
        let (own, rest) = split(words);
        let format = Format::of_words(&own);
        let parse = || -> Result<Self> {
            let matches = Self::augment_args(Command::new("j")).try_get_matches_from(&own)?;
            Ok(Self::from_arg_matches(&matches)?)
        };
        (format, parse().map(|options| (options, rest)))
    }
}

/// Splits a command line into the options of `j` and everything else; both keep the program's name.
///
/// The options of a lab are `j`'s own only before the first other word: verbs may have options of
/// their names.
fn split(words: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let command = Options::augment_args(Command::new("j"));
    let mut words = words.iter().cloned();
    let program = words.next().unwrap_or_else(|| "j".into());
    let (mut own, mut rest) = (vec![program.clone()], vec![program]);
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        let is_first = rest.iter().skip(1).all(|word| word.as_bytes().starts_with(b"-"));
        let of_pipe = rest.iter().any(|word| word == PIPE);
        let Some((option, has_value)) = named(&command, &word)
            .filter(|(option, _)| is_first || option.get_help_heading() != Some(lab::HEADING))
            .filter(|(option, _)| !of_pipe || option.get_long() != Some("output"))
        else {
            rest.push(word);
            continue;
        };
        own.push(word);
        if !has_value && option.get_action().takes_values() {
            own.extend(words.next());
        }
    }
    (own, rest)
}

/// The option that a word names, as `--long`, `--long=value`, `-s` or `-svalue`, and whether the
/// word has the value.
fn named<'a>(command: &'a Command, word: &OsStr) -> Option<(&'a Arg, bool)> {
    let word = word.as_bytes();
    let mut options = command.get_arguments();
    if let Some(name) = word.strip_prefix(b"--") {
        let end = name.iter().position(|byte| *byte == b'=');
        let name = OsStr::from_bytes(&name[..end.unwrap_or(name.len())]);
        let option = options.find(|option| {
            option.get_long().is_some_and(|long| name == long)
                || option
                    .get_all_aliases()
                    .is_some_and(|all| all.iter().any(|alias| name == *alias))
        });
        return option.map(|option| (option, end.is_some()));
    }
    let [b'-', short, value @ ..] = word else { return None };
    let option = options.find(|option| option.get_short() == Some(char::from(*short)))?;
    Some((option, !value.is_empty()))
}

/// The parser of `j` with its options, without commands.
pub(crate) fn base() -> Command {
    Options::augment_args(Command::new("j"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Use a device: its commands are those of the device's tree")
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand_value_name("PATH… VERB")
        .after_help(format!("{EXAMPLES}\n\n{EXIT_CODES}"))
}

const EXAMPLES: &str = "\
Without an option that names a device, `j` uses the exporter at JUMPSTARTER_HOST (which `jmp shell`
sets), else the lease JMP_LEASE, else a new lease with the labels JMP_SELECTOR, else the exporter
file JMP_EXPORTER_CONFIG, else the client's active lease. A command opens the device of a file and
closes it again; `--help` does not open it. A new lease ends with the command. Options may stand
anywhere; those for a device of a lab stand before the first word of the command.

Examples:
  j tree                           shows the device's tree of drivers
  j power on                       calls a verb of a driver
  j qemu power cycle --wait 5      a driver below another one; `j qemu.power cycle` is the same
  j qemu power --help              shows what a driver can do
  j call qemu.power on             calls any method by its name
  j power on --exporter lab        uses the device of the exporter file `lab`
  j -l board=rpi4 power on         leases a device of a lab for the command";

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    the device, or one of its drivers, reports an error
  2    the command line is wrong: an unknown path, command, option or argument
  3    the device cannot be reached or opened, or the connection is lost
  130  Ctrl-C ended it (143: SIGTERM); the call was cancelled on the device";

/// Whether these words ask for help.
pub(crate) fn ask_for_help(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, own: &str, rest: &str) {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let (taken, left) = split(&words);
        let joined = |words: Vec<OsString>| words.join(OsStr::new(" ")).into_string().unwrap();
        assert_eq!((joined(taken).as_str(), joined(left).as_str()), (own, rest), "{line}");
    }

    #[test]
    fn options_are_found_anywhere() {
        check("j tree", "j", "j tree");
        check("j --output json power on", "j --output json", "j power on");
        check("j power on --output=json", "j --output=json", "j power on");
        check("j power --file lab.yaml on -h", "j --file lab.yaml", "j power on -h");
        check("j --tls-grpc-insecure power on", "j --tls-grpc-insecure", "j power on");
        check("j power on --output", "j --output", "j power on");
        // The options of a lab come first.
        check("j -l a=b -nx tree", "j -l a=b -nx", "j tree");
        check("j --lease x --output json tree", "j --lease x --output json", "j tree");
        check("j power on --lease x -l y", "j", "j power on --lease x -l y");
        // Everything after `--` is a value, and `pipe` has an option of that name.
        check("j call a b -- --output json", "j", "j call a b -- --output json");
        check(
            "j --output json console pipe --output f",
            "j --output json",
            "j console pipe --output f",
        );
    }
}
