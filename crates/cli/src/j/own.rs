//! Methods that a driver's configuration names: each is a verb. Only the driver can list them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

use clap::{ArgMatches, Args, FromArgMatches};
use futures_util::StreamExt;
use jumpstarter_driver_core::{Device, Error, Interface, Node, Rest, Shell};
use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::context::Context;
use super::names::shown;
use crate::fault::{Fault, Result, SIGNALLED};
use crate::terminal;

/// The configured methods of drivers, by the drivers' paths.
#[derive(Debug, Default)]
pub(crate) struct OwnMethods(HashMap<String, Vec<String>>);

impl OwnMethods {
    /// Asks the drivers that these words name for their methods.
    ///
    /// # Errors
    /// The errors of the calls.
    pub(crate) async fn of_named(device: &Device, words: &[OsString]) -> Result<Self> {
        let mut found = Self::default();
        for node in named(device, words) {
            let methods = device.get::<dyn Shell>(node.path())?.get_methods().await?;
            found.0.insert(node.path().to_owned(), methods);
        }
        Ok(found)
    }

    /// The methods of one driver.
    pub(crate) fn of(&self, node: &Node) -> &[String] {
        self.0.get(node.path()).map_or(&[], Vec::as_slice)
    }
}

/// The drivers with configured methods that these words name.
pub(crate) fn named<'a>(
    device: &'a Device,
    words: &'a [OsString],
) -> impl Iterator<Item = &'a Node> {
    let is_shell = |node: &&Node| {
        node.interfaces().iter().any(|interface| interface.name == <dyn Shell>::DESCRIPTOR.name)
    };
    let is_named = |node: &&Node| {
        let names = [shown(node.name()), shown(node.path())];
        node.path().is_empty()
            || words.iter().skip(1).any(|word| names.iter().any(|name| word == name.as_ref()))
    };
    device.nodes().iter().filter(is_shell).filter(is_named)
}

/// The arguments of a configured method.
#[derive(Debug, Args)]
#[command(after_help = "\
The method's output is printed while it runs, and its exit code is the command's. Options of this command come before
the arguments; `--` ends them.

JSON: one line [STDOUT, STDERR, EXIT_CODE] for each piece of output")]
struct Words {
    /// An environment variable for the method; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The method's arguments
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The parser of a configured method.
pub(crate) fn command(command: clap::Command, method: &str) -> clap::Command {
    Words::augment_args(command).about(format!("Runs the method {}", shown(method)))
}

/// Runs the method, and returns its exit code.
pub(crate) async fn run(context: &Context, method: &str, matches: &ArgMatches) -> Result<u8> {
    let words = Words::from_arg_matches(matches)?;
    let env = words.env.iter().map(|pair| variable(pair)).collect::<Result<BTreeMap<_, _>>>()?;
    let shell = context.get::<dyn Shell>()?;
    let mut output = shell.call_method(method.to_owned(), Some(env), Rest(words.arguments)).await?;
    let (mut out, mut err) = (terminal::output()?, terminal::error_output()?);
    let mut exit_code = None;
    while let Some(item) = output.next().await {
        let item = item?;
        if context.output.is_json() {
            context.output.value(&json!(item))?;
        } else {
            write(&mut out, &item.stdout).await?;
            write(&mut err, &item.stderr).await?;
        }
        exit_code = exit_code.or(item.exit_code);
    }
    match exit_code {
        // A signal ended it: reported as by shells.
        Some(code @ ..0) => Ok(SIGNALLED.wrapping_add(code.unsigned_abs() as u8)),
        Some(code) => Ok(code as u8),
        None => Err(Error::data_loss(format!("`{method}` ended without an exit code")).into()),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> Result<()> {
    if !text.is_empty() {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn variable(pair: &str) -> Result<(String, String)> {
    let (name, value) = pair.split_once('=').ok_or_else(|| {
        Fault::usage(format!("`{pair}` sets no variable"), "write --env NAME=VALUE")
    })?;
    Ok((name.to_owned(), value.to_owned()))
}
