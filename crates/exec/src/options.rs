//! The command line, as upstream's program takes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::log::Format;

/// Where an ExporterSet's pod has the socket.
const SOCKET: &str = "/shared/launcher.sock";
/// Fields of each log record, as `KEY=VALUE,KEY=VALUE`.
const LOG_FIELDS: &str = "JUMPSTARTER_EXEC_LOG_FIELDS";

/// The help text.
pub(crate) const USAGE: &str = "\
Usage: jumpstarter-exec <serve|exec|shutdown|version> [options]

Subcommands:
  serve    [--socket PATH] [--debug] [--log-format json|text] [--log-field KEY=VALUE]...
           Runs programs for those who connect (logs JSON by default)
  exec     [--socket PATH] -- PROGRAM [ARGUMENT]...
           Runs a program there
  shutdown [--socket PATH]
           Ends what runs there, and the server
  version  Prints the version

The socket is /shared/launcher.sock unless --socket says otherwise.
The variable JUMPSTARTER_EXEC_LOG_FIELDS has further log fields: KEY=VALUE,KEY=VALUE.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Serve(Options),
    Exec { socket: PathBuf, argv: Vec<String> },
    Shutdown { socket: PathBuf },
    Version,
    Help,
}

/// Options of `serve`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) socket: PathBuf,
    pub(crate) debug: bool,
    pub(crate) format: Format,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Request {
    /// Parses the arguments, without the program's name.
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Self, String> {
        let fields = std::env::var(LOG_FIELDS).unwrap_or_default();
        Self::parse_with(arguments, &fields)
    }

    fn parse_with(arguments: Vec<String>, fields: &str) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let subcommand = arguments.next().ok_or("a subcommand is missing")?;
        match subcommand.as_str() {
            "version" | "--version" => return Ok(Self::Version),
            "help" | "--help" | "-h" => return Ok(Self::Help),
            "serve" | "exec" | "shutdown" => {}
            other => return Err(format!("unknown subcommand '{other}'")),
        }
        let mut options = Options {
            socket: SOCKET.into(),
            debug: false,
            format: Format::Json,
            fields: parse_fields(fields).map_err(|error| format!("{LOG_FIELDS}: {error}"))?,
        };
        let serves = subcommand == "serve";
        let mut argv = None;
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || {
                attached.clone().or_else(|| arguments.next()).ok_or(format!("{name} needs a value"))
            };
            match name {
                "--" if subcommand == "exec" => {
                    argv = Some(arguments.by_ref().collect::<Vec<_>>());
                }
                "--socket" => options.socket = value()?.into(),
                "--help" | "-h" => return Ok(Self::Help),
                "--debug" if serves => options.debug = true,
                "--log-format" if serves => options.format = value()?.parse()?,
                "--log-field" if serves => options.fields.extend(parse_fields(&value()?)?),
                _ => return Err(format!("unknown option '{argument}' of {subcommand}")),
            }
        }
        match (subcommand.as_str(), argv) {
            ("serve", _) => Ok(Self::Serve(options)),
            ("shutdown", _) => Ok(Self::Shutdown { socket: options.socket }),
            (_, Some(argv)) if !argv.is_empty() => Ok(Self::Exec { socket: options.socket, argv }),
            _ => Err("exec: a program behind '--' is missing".to_owned()),
        }
    }
}

/// Parses `KEY=VALUE,KEY=VALUE`.
fn parse_fields(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs = parts.map(|part| match part.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!("'{part}' is not KEY=VALUE")),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse_with(line.split_whitespace().map(str::to_owned).collect(), "exporter=a,b=c")
    }

    #[test]
    fn the_options_are_those_of_upstream() {
        let Request::Serve(options) = parse("serve").unwrap() else { panic!("serve") };
        assert_eq!(options.socket, PathBuf::from(SOCKET));
        assert!(!options.debug && options.format == Format::Json && options.fields["b"] == "c");
        let line =
            "serve --socket /s --debug --log-format text --log-field b=d --log-field component=e";
        let Request::Serve(options) = parse(line).unwrap() else { panic!("serve") };
        assert!(options.debug && options.format == Format::Text);
        let fields: Vec<_> = options.fields.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(fields, [("b", "d"), ("component", "e"), ("exporter", "a")]);
        let argv = ["ls", "--socket", "x"].map(str::to_owned).to_vec();
        let socket = PathBuf::from("/s");
        let exec = Request::Exec { socket: socket.clone(), argv };
        assert_eq!(parse("exec --socket=/s -- ls --socket x").unwrap(), exec);
        assert_eq!(parse("shutdown --socket /s").unwrap(), Request::Shutdown { socket });
        assert_eq!(parse("version").unwrap(), Request::Version);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, expected) in [
            ("", "subcommand is missing"),
            ("run", "'run'"),
            ("exec ls", "'ls'"),
            ("exec --", "behind '--'"),
            ("exec", "behind '--'"),
            ("serve --socket", "--socket needs a value"),
            ("serve --log-format xml", "xml"),
            ("serve --log-field =a", "'=a'"),
            ("shutdown --debug", "'--debug'"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert!(
            Request::parse_with(vec!["serve".to_owned()], "a").unwrap_err().contains(LOG_FIELDS)
        );
    }
}
