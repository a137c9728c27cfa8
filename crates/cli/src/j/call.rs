//! `call` and `stream`: any method by its name, also of drivers that this program does not know.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use jumpstarter_driver_core::{Arguments, ErrorKind, MethodKind, Node, Reply};

use super::context::Context;
use super::fault::Fault;
use super::verbs::Verb;
use super::{method, tree};

/// What is opened when no method is named.
const CONNECT: &str = "connect";

/// `j call PATH …` and `j stream PATH …`.
pub(crate) const CALL: Verb = Verb {
    name: "call",
    command: |command| call_command(command.arg(path()), "j call qemu.power", "j call acme"),
    run: |context, matches| Box::pin(call(context, matches)),
};
/// See [`CALL`].
pub(crate) const STREAM: Verb = Verb {
    name: "stream",
    command: |command| stream_command(command.arg(path()), "j stream qemu.power", "j stream web"),
    run: |context, matches| Box::pin(stream(context, matches)),
};

/// The same below a driver: `j qemu power call …`.
pub(crate) static OF_A_DRIVER: &[Verb] = &[
    Verb {
        name: "call",
        command: |command| call_command(command, "{path} call", "{path} call"),
        run: |context, matches| Box::pin(call(context, matches)),
    },
    Verb {
        name: "stream",
        command: |command| stream_command(command, "{path} stream", "{path} stream"),
        run: |context, matches| Box::pin(stream(context, matches)),
    },
];

fn path() -> Arg {
    Arg::new("path")
        .value_name("PATH")
        .required(true)
        .help("The driver, as `j tree` names it; . is the root")
}

fn words(position: usize) -> Arg {
    Arg::new("arguments")
        .index(position)
        .value_name("JSON")
        .action(ArgAction::Append)
        .allow_negative_numbers(true)
        .help("The arguments in order: each is JSON, or text when it is not")
}

fn call_command(command: Command, known: &str, unknown: &str) -> Command {
    let first = command.get_positionals().count() + 1;
    command
        .about("Calls a method by its name and prints what it answers")
        .arg(
            Arg::new("method")
                .index(first)
                .value_name("METHOD")
                .required(true)
                .help("The method's name"),
        )
        .arg(words(first + 1))
        .after_help(format!(
            "\
An image that a known method takes is a file, a URL, or - for standard input or output.

Examples:
  {known} on
  {unknown} blink 3 '{{\"colour\": \"red\"}}'

JSON: what the method answers; null when it answers nothing"
        ))
}

fn stream_command(command: Command, known: &str, unknown: &str) -> Command {
    let first = command.get_positionals().count() + 1;
    let form = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    command
        .about("Joins standard input and output to a driver, or prints the values that a method streams")
        .arg(
            Arg::new("method")
                .index(first)
                .value_name("METHOD")
                .default_value(CONNECT)
                .help("The method's name"),
        )
        .arg(words(first + 1))
        .arg(form("bytes", "The method opens a byte stream").conflicts_with("values"))
        .arg(form("values", "The method streams values"))
        .after_help(format!(
            "\
What kind of stream it is, is known or found out; --bytes and --values say it. The end of standard input ends that
direction only; the command ends when the driver's side does, or with Ctrl-C.

Examples:
  {unknown} < request > answer
  {known} read

JSON: one line for each value; bytes stay bytes"
        ))
}

/// The command of a method of which only a description is known.
pub(crate) fn described_command(command: Command) -> Command {
    command.arg(words(1))
}

/// Calls a method of which only a description is known: whether it answers once, with a stream of
/// values or with bytes is found out.
pub(crate) async fn described(context: &Context, name: &str, matches: &ArgMatches) -> Result<u8> {
    let node = context.node()?;
    let given =
        || method::arguments(None, matches.get_many::<String>("arguments").into_iter().flatten());
    let error = match node.caller().invoke(name, MethodKind::Unary, given()?).await {
        Ok(reply) => return method::answer(context, None, reply).await,
        Err(error) => error,
    };
    // Not called yet: there is no such method that answers once.
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented) {
        return Err(error.into());
    }
    for kind in [MethodKind::Stream, MethodKind::Channel] {
        if let Ok(reply) = open(node.caller().invoke(name, kind, given()?).await).await {
            return method::answer(context, None, reply).await;
        }
    }
    Err(error.into())
}

/// The driver that is meant: named by an argument, or by the place of the command.
fn node<'a>(context: &'a Context, matches: &ArgMatches) -> Result<&'a Node> {
    match matches.try_get_one::<String>("path").ok().flatten() {
        Some(path) if path == "." => Ok(context.device.node("")?),
        Some(path) => tree::find(&context.device, path),
        None => context.node(),
    }
}

fn name(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("method").map_or(CONNECT, String::as_str)
}

fn arguments(node: &Node, matches: &ArgMatches) -> Result<Arguments> {
    let words = matches.get_many::<String>("arguments").into_iter().flatten();
    method::arguments(method::find(node, name(matches)), words)
}

async fn call(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (node, name) = (node(context, matches)?, name(matches));
    if let Some(MethodKind::Stream | MethodKind::Channel) = method::kind(node, name) {
        let message = format!("`{name}` does not answer once");
        return Err(Fault::usage(message, format!("try `j stream {} {name}`", shown(node))));
    }
    let reply = node.caller().invoke(name, MethodKind::Unary, arguments(node, matches)?).await?;
    method::answer(context, method::find(node, name), reply).await
}

async fn stream(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (node, name) = (node(context, matches)?, name(matches));
    let kind = match (matches.get_flag("bytes"), matches.get_flag("values")) {
        (true, _) => Some(MethodKind::Channel),
        (_, true) => Some(MethodKind::Stream),
        _ => method::kind(node, name),
    };
    if kind == Some(MethodKind::Unary) {
        let message = format!("`{name}` answers once");
        return Err(Fault::usage(message, format!("try `j call {} {name}`", shown(node))));
    }
    let reply = match kind {
        Some(kind) => node.caller().invoke(name, kind, arguments(node, matches)?).await?,
        None => found_out(node, name, matches).await?,
    };
    method::answer(context, method::find(node, name), reply).await
}

/// Opens what may be bytes or values: `connect` is bytes, everything else is tried as values first.
async fn found_out(node: &Node, name: &str, matches: &ArgMatches) -> Result<Reply> {
    let (first, second) = match name {
        CONNECT => (MethodKind::Channel, MethodKind::Stream),
        _ => (MethodKind::Stream, MethodKind::Channel),
    };
    let caller = node.caller();
    let error = match open(caller.invoke(name, first, arguments(node, matches)?).await).await {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented | ErrorKind::Unknown)
    {
        return Err(error.into());
    }
    // When neither works, what the first one said is about what was meant.
    match caller.invoke(name, second, arguments(node, matches)?).await {
        Ok(reply) => Ok(reply),
        Err(_) => Err(error.into()),
    }
}

/// An exporter says with the first value that there is no such stream.
async fn open(
    reply: jumpstarter_driver_core::Result<Reply>,
) -> jumpstarter_driver_core::Result<Reply> {
    use futures_util::StreamExt;
    match reply? {
        Reply::Stream(values) => {
            let mut values = values.peekable();
            match std::pin::Pin::new(&mut values).next_if(Result::is_err).await {
                Some(Err(error)) => Err(error),
                _ => Ok(Reply::Stream(values.boxed())),
            }
        }
        other => Ok(other),
    }
}

fn shown(node: &Node) -> &str {
    if node.path().is_empty() { "." } else { node.path() }
}
