//! `call` and `stream`: any method by its name, also of drivers that this program does not know.

use clap::Args;
use jumpstarter_driver_core::{Arguments, ErrorKind, MethodKind, Node, Reply};

use super::context::Context;
use super::verb::{Say, Verb};
use super::{method, names};
use crate::fault::{Fault, Result};

/// What is opened when no method is named.
const CONNECT: &str = "connect";

/// `call` and `stream` below a driver, as [`CallPath`] and [`StreamPath`] are for the whole device:
/// `j qemu power call …`.
pub(crate) static OF_A_DRIVER: &[Verb] = &[Verb::of::<Call>(), Verb::of::<Stream>()];

/// The arguments of a method, as words.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// The arguments in order: each is JSON, or text when it is not
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    arguments: Vec<String>,
}

/// Calls a method by its name and prints the answer
#[derive(Debug, Args)]
#[command(after_help = call_help("{path} call", "{path} call"))]
pub(crate) struct Call {
    /// The method's name
    method: String,
    #[command(flatten)]
    words: Words,
}

/// Calls a method by its name and prints the answer
#[derive(Debug, Args)]
#[command(after_help = call_help("j call qemu.power", "j call acme"))]
pub(crate) struct CallPath {
    /// The driver, as `j tree` names it; . is the root
    path: String,
    #[command(flatten)]
    call: Call,
}

/// Connects standard input and output to a driver, or prints the values that a method streams
#[derive(Debug, Args)]
#[command(after_help = stream_help("{path} stream", "{path} stream"))]
pub(crate) struct Stream {
    /// The method's name
    #[arg(default_value = CONNECT)]
    method: String,
    #[command(flatten)]
    words: Words,
    /// The method opens a byte stream
    #[arg(long, conflicts_with = "values")]
    bytes: bool,
    /// The method streams values
    #[arg(long)]
    values: bool,
}

/// Connects standard input and output to a driver, or prints the values that a method streams
#[derive(Debug, Args)]
#[command(after_help = stream_help("j stream qemu.power", "j stream web"))]
pub(crate) struct StreamPath {
    /// The driver, as `j tree` names it; . is the root
    path: String,
    #[command(flatten)]
    stream: Stream,
}

fn call_help(known: &str, unknown: &str) -> String {
    format!(
        "\
An image argument of a known method is a file, a URL, or - for standard input or output.

Examples:
  {known} on
  {unknown} blink 3 '{{\"colour\": \"red\"}}'

JSON: the method's answer; null if it has none"
    )
}

fn stream_help(known: &str, unknown: &str) -> String {
    format!(
        "\
The kind of stream is detected; --bytes and --values set it. The end of standard input ends that direction only; the
command ends when the driver closes its side, or with Ctrl-C.

Examples:
  {unknown} < request > answer
  {known} read

JSON: one line for each value; bytes stay bytes"
    )
}

impl Say for Call {
    const NAME: &'static str = "call";

    async fn run(self, context: &Context) -> Result<u8> {
        self.of(context, context.node()?).await
    }
}

impl Say for CallPath {
    const NAME: &'static str = Call::NAME;

    async fn run(self, context: &Context) -> Result<u8> {
        self.call.of(context, names::find(context.device(), &self.path)?).await
    }
}

impl Say for Stream {
    const NAME: &'static str = "stream";

    async fn run(self, context: &Context) -> Result<u8> {
        self.of(context, context.node()?).await
    }
}

impl Say for StreamPath {
    const NAME: &'static str = Stream::NAME;

    async fn run(self, context: &Context) -> Result<u8> {
        self.stream.of(context, names::find(context.device(), &self.path)?).await
    }
}

impl Call {
    async fn of(&self, context: &Context, node: &Node) -> Result<u8> {
        let (name, method) = (&self.method, method::find(node, &self.method));
        if let Some(MethodKind::Stream | MethodKind::Channel) = method.map(|method| method.kind) {
            let message = format!("`{name}` does not answer once");
            return Err(Fault::usage(message, format!("try `j stream {} {name}`", shown(node))));
        }
        let arguments = method::arguments(method, &self.words.arguments)?;
        let reply = node.caller().invoke(name, MethodKind::Unary, arguments).await?;
        method::answer(context, method, reply).await
    }
}

impl Stream {
    async fn of(&self, context: &Context, node: &Node) -> Result<u8> {
        let (name, method) = (&self.method, method::find(node, &self.method));
        let kind = match (self.bytes, self.values) {
            (true, _) => Some(MethodKind::Channel),
            (_, true) => Some(MethodKind::Stream),
            _ => method.map(|method| method.kind),
        };
        if kind == Some(MethodKind::Unary) {
            let message = format!("`{name}` answers once");
            return Err(Fault::usage(message, format!("try `j call {} {name}`", shown(node))));
        }
        let arguments = || method::arguments(method, &self.words.arguments);
        let reply = match kind {
            Some(kind) => node.caller().invoke(name, kind, arguments()?).await?,
            None => detected(node, name, arguments).await?,
        };
        method::answer(context, method, reply).await
    }
}

/// Opens a stream of unknown kind: `connect` as bytes; everything else as values first, then as
/// bytes.
async fn detected(
    node: &Node,
    name: &str,
    arguments: impl Fn() -> Result<Arguments>,
) -> Result<Reply> {
    let (first, second) = match name {
        CONNECT => (MethodKind::Channel, MethodKind::Stream),
        _ => (MethodKind::Stream, MethodKind::Channel),
    };
    let caller = node.caller();
    let error = match open(caller.invoke(name, first, arguments()?).await).await {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented | ErrorKind::Unknown)
    {
        return Err(error.into());
    }
    // If both fail, the first error is about the likelier kind.
    match caller.invoke(name, second, arguments()?).await {
        Ok(reply) => Ok(reply),
        Err(_) => Err(error.into()),
    }
}

/// An exporter reports a missing stream only with the first value.
pub(super) async fn open(
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
