//! Verbs of power switches.

use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use futures_util::StreamExt;
use jumpstarter_driver_core::{Power, PowerReading, Span};
use serde_json::json;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::SUCCESS;

pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "on",
        command: |command| command.after_help("Example:\n  {path} on"),
        run: |context, _| Box::pin(on(context)),
    },
    Verb {
        name: "off",
        command: |command| command.after_help("Example:\n  {path} off"),
        run: |context, _| Box::pin(off(context)),
    },
    Verb {
        name: "cycle",
        command: |command| {
            command
                .about("Cuts power, waits, and applies it again")
                .arg(
                    Arg::new("wait")
                        .short('w')
                        .long("wait")
                        .value_name("TIME")
                        .default_value("2")
                        .value_parser(value_parser!(Span))
                        .help("How long it stays off: seconds, or a time such as 500ms"),
                )
                .after_help("Examples:\n  {path} cycle\n  {path} cycle --wait 10")
        },
        run: |context, matches| Box::pin(cycle(context, matches)),
    },
    Verb {
        name: "read",
        command: |command| {
            command
                .arg(
                    Arg::new("count")
                        .short('n')
                        .long("count")
                        .value_name("NUMBER")
                        .default_value("1")
                        .value_parser(value_parser!(u64))
                        .help("How often the meter is asked; 0 goes on until Ctrl-C"),
                )
                .arg(
                    Arg::new("interval")
                        .short('i')
                        .long("interval")
                        .value_name("TIME")
                        .default_value("1")
                        .value_parser(value_parser!(Span))
                        .help("How long to wait before it is asked again: seconds, or a time such as 500ms"),
                )
                .after_help(
                    "\
Each time, everything that the meter answers is shown: one reading or several. One that goes on by itself is shown
until Ctrl-C.

Examples:
  {path} read
  {path} read --count 0 --interval 500ms
  {path} read --output json

JSON: {\"voltage\": volts, \"current\": amperes, \"apparent_power\": volt-amperes} for each reading",
                )
        },
        run: |context, matches| Box::pin(read(context, matches)),
    },
];

/// The client class of virtual devices, which switching off can destroy.
pub(super) const VIRTUAL_CLIENT: &str = "jumpstarter_driver_power.client.VirtualPowerClient";

/// What replaces the verbs above for them.
pub(super) static VIRTUAL_VERBS: &[Verb] = &[Verb {
    name: "off",
    command: |command| {
        command
            .about("Cuts power")
            .arg(
                Arg::new("destroy")
                    .long("destroy")
                    .action(ArgAction::SetTrue)
                    .help("Destroy the virtual device after that"),
            )
            .after_help("Examples:\n  {path} off\n  {path} off --destroy")
    },
    run: |context, matches| Box::pin(virtual_off(context, matches)),
}];

async fn virtual_off(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let destroy = json!(matches.get_flag("destroy"));
    context.device.call(&context.path, "off", vec![destroy]).await?;
    context.output.done()
}

async fn on(context: &Context) -> Result<u8> {
    context.get::<dyn Power>()?.on().await?;
    context.output.done()
}

async fn off(context: &Context) -> Result<u8> {
    context.get::<dyn Power>()?.off().await?;
    context.output.done()
}

async fn cycle(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let power = context.get::<dyn Power>()?;
    let wait = duration(matches, "wait");
    power.off().await?;
    if !context.output.is_json() {
        context.output.note(format_args!("off, on again in {wait:?}"));
    }
    tokio::time::sleep(wait).await;
    power.on().await?;
    context.output.done()
}

/// Asks the meter so often, and shows all that it answers each time.
async fn read(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let power = context.get::<dyn Power>()?;
    let count = matches.get_one::<u64>("count").copied().unwrap_or(1);
    let mut asked = 0_u64;
    loop {
        let mut readings = power.read().await?;
        while let Some(reading) = readings.next().await {
            show(context, &reading?)?;
        }
        asked = asked.saturating_add(1);
        if asked == count {
            return Ok(SUCCESS);
        }
        tokio::time::sleep(duration(matches, "interval")).await;
    }
}

fn show(context: &Context, reading: &PowerReading) -> Result<()> {
    let PowerReading { voltage, current } = *reading;
    let apparent_power = voltage * current;
    let value = json!({"voltage": voltage, "current": current, "apparent_power": apparent_power});
    let text = format!("voltage={voltage:?} V  current={current:?} A  apparent_power={apparent_power:?} VA");
    Ok(context.output.answer(&value, text)?)
}

fn duration(matches: &ArgMatches, name: &str) -> Duration {
    matches.get_one::<Span>(name).map_or(Duration::ZERO, |span| span.as_duration())
}
