//! Verbs of virtual machines that show more than what the call answers. The others are its methods
//! as they are.

use std::io::{self, IsTerminal};

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use futures_util::StreamExt;
use jumpstarter_driver_core::{Arguments, Error, ErrorKind, MethodKind, Span};
use jumpstarter_driver_qemu::{Machine, Phase};
use serde_json::Value;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::{Fault, SUCCESS};
use crate::j::method;
use crate::print::{self, line};

pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "state",
        command: |command| {
            command.after_help(
                "Example:\n  {path} state\n\nJSON: {\"state\": \"off\", \"starting\", \"running\", \"paused\", \
                 \"stopping\", \"crashed\" or \"destroyed\"}, with \"why\" for a crash, and for a pause that the host's \
                 full disk has brought about",
            )
        },
        run: |context, _| Box::pin(state(context)),
    },
    Verb {
        name: "stop",
        command: |command| {
            command.after_help(
                "Example:\n  {path} stop\n\nJSON: \"already-off\", \"graceful\", \"cut\" or \"killed\"",
            )
        },
        run: |context, _| Box::pin(stop(context)),
    },
    Verb {
        name: "wait",
        command: wait_command,
        run: |context, matches| Box::pin(wait(context, matches)),
    },
    Verb {
        name: "events",
        command: events_command,
        run: |context, matches| Box::pin(events(context, matches)),
    },
    Verb {
        name: "destroy",
        command: destroy_command,
        run: |context, matches| Box::pin(destroy(context, matches)),
    },
];

fn destroy_command(command: Command) -> Command {
    command
        .arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Do not ask"))
        .after_help(
            "\
Nobody can use the machine after that until the exporter is started anew. On a terminal it asks first; elsewhere it
wants --yes.

Example:
  {path} destroy --yes",
        )
}

fn wait_command(command: Command) -> Command {
    command
        .about("Waits until the machine is in a state")
        .arg(
            Arg::new("state")
                .value_name("STATE")
                .default_value("running")
                .value_parser(Phase::ALL.map(|phase| phase.to_string()))
                .help("The state"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("TIME")
                .default_value("60")
                .value_parser(value_parser!(Span))
                .help("How long at most: seconds, or a time such as 2min"),
        )
        .after_help(
            "\
It fails at once when the machine goes off or crashes instead.

Examples:
  {path} wait
  {path} wait off --timeout 2min

JSON: as of `state`",
        )
}

fn events_command(command: Command) -> Command {
    command
        .arg(
            Arg::new("count")
                .short('n')
                .long("count")
                .value_name("NUMBER")
                .default_value("0")
                .value_parser(value_parser!(u64))
                .help("How many; 0 goes on until Ctrl-C"),
        )
        .after_help(
            "Example:\n  {path} events\n\nJSON: {\"name\", \"state\", \"data\"} for each event",
        )
}

async fn destroy(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let path = &context.path;
    if !matches.get_flag("yes") && !confirmed(path).await? {
        return Err(Error::new(ErrorKind::Cancelled, format!("`{path}` was not destroyed")).into());
    }
    let node = context.node()?;
    let reply = node.caller().invoke("destroy", MethodKind::Unary, Arguments::new()).await?;
    method::answer(context, method::find(node, "destroy"), reply).await
}

/// Asks on the terminal.
async fn confirmed(path: &str) -> Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let message = format!(
            "destroying `{path}` takes it from everybody until the exporter is started anew"
        );
        return Err(Fault::usage(message, "add --yes if that is meant"));
    }
    let question = format!(
        "Destroy `{}`? It loses its disks, and nobody can use it until the exporter is started anew. [y/N]",
        line(path)
    );
    print::err_with_end(question, " ");
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await??;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

async fn state(context: &Context) -> Result<u8> {
    let state = context.get::<dyn Machine>()?.state().await?;
    context.output.answer(&state, &state)?;
    Ok(SUCCESS)
}

async fn stop(context: &Context) -> Result<u8> {
    let outcome = context.get::<dyn Machine>()?.stop().await?;
    context.output.answer(&outcome, outcome)?;
    Ok(SUCCESS)
}

async fn wait(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let wanted = matches.get_one::<String>("state").map_or("running", String::as_str);
    let phase = Phase::ALL.into_iter().find(|phase| phase.to_string() == wanted);
    let phase =
        phase.ok_or_else(|| Fault::usage(format!("`{wanted}` is no state"), "try --help"))?;
    let timeout = matches.get_one::<Span>("timeout").copied();
    let state = context.get::<dyn Machine>()?.wait_for(phase, timeout).await?;
    context.output.answer(&state, &state)?;
    Ok(SUCCESS)
}

async fn events(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let count = matches.get_one::<u64>("count").copied().unwrap_or_default();
    let mut events = context.get::<dyn Machine>()?.events().await?;
    let mut taken = 0;
    while let Some(event) = events.next().await {
        let event = event?;
        let data = match &event.data {
            Value::Null => String::new(),
            data => format!("  {data}"),
        };
        context.output.answer(&event, format!("{}  {}{data}", event.name, event.state))?;
        taken += 1;
        if taken == count {
            break;
        }
    }
    Ok(SUCCESS)
}
