//! Verbs of virtual machines that show more than the call's answer. Other methods are called as
//! they are.

use std::io::{self, IsTerminal};

use clap::Args;
use clap::builder::PossibleValuesParser;
use futures_util::StreamExt;
use jumpstarter_driver_core::{Arguments, Error, MethodKind, Span};
use jumpstarter_driver_qemu::{Machine, Phase};
use serde_json::Value;

use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::j::context::Context;
use crate::j::method;
use crate::j::verb::{Say, Verb};
use crate::print::line;

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<State>(),
    Verb::of::<Stop>(),
    Verb::of::<Wait>(),
    Verb::of::<Events>(),
    Verb::of::<Destroy>(),
];

#[derive(Debug, Args)]
#[command(after_help = "Example:
  {path} state

JSON: {\"state\": \"off\", \"starting\", \"running\", \"paused\", \"stopping\", \"crashed\" or \"destroyed\"}, with \"why\" \
after a crash, and during a pause that a full disk of the host caused")]
struct State {}

impl Say for State {
    const NAME: &'static str = "state";

    async fn run(self, context: &Context) -> Result<u8> {
        let state = context.get::<dyn Machine>()?.state().await?;
        context.output.answer(&state, &state)?;
        Ok(SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  {path} stop

JSON: \"already-off\", \"graceful\", \"cut\" or \"killed\"")]
struct Stop {}

impl Say for Stop {
    const NAME: &'static str = "stop";

    async fn run(self, context: &Context) -> Result<u8> {
        let outcome = context.get::<dyn Machine>()?.stop().await?;
        context.output.answer(&outcome, outcome)?;
        Ok(SUCCESS)
    }
}

/// Waits until the machine is in a state
#[derive(Debug, Args)]
#[command(after_help = "\
Fails at once if the machine powers off or crashes instead.

Examples:
  {path} wait
  {path} wait off --timeout 2min

JSON: as of `state`")]
struct Wait {
    /// The state to wait for
    #[arg(default_value = "running",
        value_parser = PossibleValuesParser::new(Phase::ALL.map(|phase| phase.to_string())))]
    state: String,
    /// The longest wait: seconds, or a time such as 2min
    #[arg(long, value_name = "TIME", default_value = "60")]
    timeout: Span,
}

impl Say for Wait {
    const NAME: &'static str = "wait";

    async fn run(self, context: &Context) -> Result<u8> {
        let wanted = self.state;
        let phase = Phase::ALL.into_iter().find(|phase| phase.to_string() == wanted);
        let phase =
            phase.ok_or_else(|| Fault::usage(format!("`{wanted}` is no state"), "try --help"))?;
        let state = context.get::<dyn Machine>()?.wait_for(phase, Some(self.timeout)).await?;
        context.output.answer(&state, &state)?;
        Ok(SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  {path} events\n\nJSON: {\"name\", \"state\", \"data\"} for each event"
)]
struct Events {
    /// How many to print; 0 continues until Ctrl-C
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 0)]
    count: u64,
}

impl Say for Events {
    const NAME: &'static str = "events";

    async fn run(self, context: &Context) -> Result<u8> {
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
            if taken == self.count {
                break;
            }
        }
        Ok(SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
The machine cannot be used again until the exporter is restarted. On a terminal the command asks first; elsewhere it
needs --yes.

Example:
  {path} destroy --yes")]
struct Destroy {
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Say for Destroy {
    const NAME: &'static str = "destroy";

    async fn run(self, context: &Context) -> Result<u8> {
        let path = &context.path;
        if !self.yes && !confirmed(path, context.output.environment()).await? {
            let error = Error::cancelled(format!("`{path}` was not destroyed"));
            return Err(error.into());
        }
        let node = context.node()?;
        let reply = node.caller().invoke(Self::NAME, MethodKind::Unary, Arguments::new()).await?;
        method::answer(context, method::find(node, Self::NAME), reply).await
    }
}

/// Asks for confirmation on the terminal.
async fn confirmed(path: &str, environment: &Environment) -> Result<bool> {
    if !(io::stdin().is_terminal() && environment.err_is_terminal()) {
        let message = format!(
            "destroying `{path}` takes it from everybody until the exporter is started anew"
        );
        return Err(Fault::usage(message, "add --yes if that is meant"));
    }
    let question = format!(
        "Destroy `{}`? It loses its disks, and nobody can use it until the exporter is started anew. [y/N]",
        line(path)
    );
    environment.report_with_end(question, " ");
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(std::io::Error::from)??;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
