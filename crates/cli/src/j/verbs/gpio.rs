//! Verbs of GPIO lines.

use clap::Args;
use clap::builder::PossibleValuesParser;
use jumpstarter_driver_core::Span;
use jumpstarter_driver_gpiod::{GpioEdge, GpioEdges, GpioPin};

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};

/// The client classes of lines whose `read` shows their state.
pub(super) const CLIENTS: [&str; 2] = [
    "jumpstarter_driver_gpiod.client.DigitalOutputClient",
    "jumpstarter_driver_gpiod.client.DigitalInputClient",
];

/// The verbs of those.
pub(super) static READ: &[Verb] = &[Verb::of::<Read>()];

/// The verbs of every line.
pub(super) static PIN: &[Verb] = &[Verb::of::<ReadPin>()];

/// The verbs of inputs.
pub(super) static EDGES: &[Verb] =
    &[Verb::of::<WaitForEdge>(), Verb::of::<WaitForActive>(), Verb::of::<WaitForInactive>()];

async fn read(context: &Context) -> Result<u8> {
    let state = context.get::<dyn GpioPin>()?.read_pin().await?;
    context.output.answer(&state.to_string(), state)?;
    Ok(SUCCESS)
}

/// Prints the line's state: active or inactive
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} read\n\nJSON: \"active\" or \"inactive\"")]
struct Read {}

impl Say for Read {
    const NAME: &'static str = "read";

    async fn run(self, context: &Context) -> Result<u8> {
        read(context).await
    }
}

/// Prints the line's state: active or inactive
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} read-pin\n\nJSON: \"active\" or \"inactive\"")]
struct ReadPin {}

impl Say for ReadPin {
    const NAME: &'static str = "read-pin";

    async fn run(self, context: &Context) -> Result<u8> {
        read(context).await
    }
}

/// What all waits take.
#[derive(Debug, Args)]
struct Limit {
    /// The longest wait: seconds, or a time such as 2min
    #[arg(short, long, value_name = "TIME", default_value = "3600")]
    timeout: Span,
}

/// Waits for an edge of the line
///
/// An edge since the last wait counts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  {path} wait-for-edge rising
  {path} wait-for-edge falling --timeout 10")]
struct WaitForEdge {
    /// From inactive to active, or back
    #[arg(value_name = "EDGE", value_parser = PossibleValuesParser::new(["rising", "falling"]))]
    edge_type: String,
    #[command(flatten)]
    limit: Limit,
}

impl Say for WaitForEdge {
    const NAME: &'static str = "wait-for-edge";

    async fn run(self, context: &Context) -> Result<u8> {
        let edge = match self.edge_type.as_str() {
            "rising" => GpioEdge::Rising,
            _ => GpioEdge::Falling,
        };
        context.get::<dyn GpioEdges>()?.wait_for_edge(edge, Some(self.limit.timeout)).await?;
        context.output.done()
    }
}

/// Waits until the line is active
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} wait-for-active --timeout 30")]
struct WaitForActive {
    #[command(flatten)]
    limit: Limit,
}

impl Say for WaitForActive {
    const NAME: &'static str = "wait-for-active";

    async fn run(self, context: &Context) -> Result<u8> {
        context.get::<dyn GpioEdges>()?.wait_for_active(Some(self.limit.timeout)).await?;
        context.output.done()
    }
}

/// Waits until the line is inactive
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} wait-for-inactive --timeout 30")]
struct WaitForInactive {
    #[command(flatten)]
    limit: Limit,
}

impl Say for WaitForInactive {
    const NAME: &'static str = "wait-for-inactive";

    async fn run(self, context: &Context) -> Result<u8> {
        context.get::<dyn GpioEdges>()?.wait_for_inactive(Some(self.limit.timeout)).await?;
        context.output.done()
    }
}
