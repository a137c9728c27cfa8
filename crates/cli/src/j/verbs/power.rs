//! Verbs of power switches.

use std::time::Duration;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use futures_util::StreamExt;
use jumpstarter_driver_core::{Power, PowerReading, Span, ValueStream};
use serde_json::json;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::SUCCESS;

/// An answer that has all the readings that were wanted has so long to end: a meter that goes on by
/// itself does not.
const MORE: Duration = Duration::from_millis(500);

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
Each time, everything that the meter answers is shown: one reading or several. Of a meter that goes on by itself, as
many readings as --count says are shown; without --count it is shown until Ctrl-C.

Examples:
  {path} read
  {path} read --count 5
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
    // Without it, all that one answer has.
    let is_given = matches.value_source("count") == Some(ValueSource::CommandLine);
    let most = is_given.then_some(count).filter(|count| *count > 0);
    let mut asked = 0_u64;
    loop {
        if pass(power.read().await?, most, |reading| show(context, reading)).await? == Pass::GoesOn
        {
            return Ok(SUCCESS);
        }
        asked = asked.saturating_add(1);
        if asked == count {
            return Ok(SUCCESS);
        }
        tokio::time::sleep(duration(matches, "interval")).await;
    }
}

/// How the answer of a meter ended.
#[derive(Debug, PartialEq)]
enum Pass {
    Ended,
    /// It has more readings than were wanted.
    GoesOn,
}

/// Shows the readings of one answer, `most` of them at the most.
async fn pass(
    mut readings: ValueStream<PowerReading>,
    most: Option<u64>,
    mut show: impl FnMut(&PowerReading) -> Result<()>,
) -> Result<Pass> {
    let mut shown = 0_u64;
    loop {
        let next = readings.next();
        let reading = match most {
            Some(most) if shown == most => match tokio::time::timeout(MORE, next).await {
                Ok(None) => return Ok(Pass::Ended),
                _ => return Ok(Pass::GoesOn),
            },
            _ => next.await,
        };
        let Some(reading) = reading else { return Ok(Pass::Ended) };
        show(&reading?)?;
        shown += 1;
    }
}

fn show(context: &Context, reading: &PowerReading) -> Result<()> {
    let PowerReading { voltage, current } = *reading;
    let apparent_power = voltage * current;
    let value = json!({"voltage": voltage, "current": current, "apparent_power": apparent_power});
    let text = format!(
        "voltage={voltage:?} V  current={current:?} A  apparent_power={apparent_power:?} VA"
    );
    Ok(context.output.answer(&value, text)?)
}

fn duration(matches: &ArgMatches, name: &str) -> Duration {
    matches.get_one::<Span>(name).map_or(Duration::ZERO, |span| span.as_duration())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Of so many readings, after which the meter ends, or keeps quiet for good.
    async fn check(readings: u64, ends: bool, most: Option<u64>, expected: (u64, Pass)) {
        let reading = PowerReading { voltage: 1.0, current: 1.0 };
        let some = stream::iter((0..readings).map(move |_| Ok(reading)));
        let answer = match ends {
            true => some.boxed(),
            false => some.chain(stream::pending()).boxed(),
        };
        let mut shown = 0;
        let ended = pass(answer, most, |_| {
            shown += 1;
            Ok(())
        });
        let ended =
            tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends").unwrap();
        assert_eq!((shown, ended), expected, "{readings} {ends} {most:?}");
    }

    #[tokio::test]
    async fn a_meter_that_goes_on_gives_as_many_readings_as_were_wanted() {
        check(2, true, None, (2, Pass::Ended)).await;
        check(2, true, Some(2), (2, Pass::Ended)).await;
        check(1, true, Some(5), (1, Pass::Ended)).await;
        check(100, true, Some(3), (3, Pass::GoesOn)).await;
        check(2, false, Some(2), (2, Pass::GoesOn)).await;
    }
}
