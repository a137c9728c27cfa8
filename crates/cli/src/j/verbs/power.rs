//! Verbs of power switches.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use jumpstarter_driver_core::{Power, PowerReading, Span, ValueStream};
use jumpstarter_driver_power::PowerCycle;
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};

/// How long an answer may stay open after the wanted readings. A meter that never ends exceeds it.
const MORE: Duration = Duration::from_secs(2);

pub(super) static VERBS: &[Verb] =
    &[Verb::of::<On>(), Verb::of::<Off>(), Verb::of::<Cycle>(), Verb::of::<Read>()];

/// The client class of virtual devices, which can be destroyed when they are switched off.
pub(super) const VIRTUAL_CLIENT: &str = "jumpstarter_driver_power.client.VirtualPowerClient";

/// The verbs that virtual devices have instead of those above.
pub(super) static VIRTUAL_VERBS: &[Verb] = &[Verb::of::<VirtualOff>()];

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} on")]
struct On {}

impl Say for On {
    const NAME: &'static str = "on";

    async fn run(self, context: &Context) -> Result<u8> {
        context.get::<dyn Power>()?.on().await?;
        context.output.done()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} off")]
struct Off {}

impl Say for Off {
    const NAME: &'static str = "off";

    async fn run(self, context: &Context) -> Result<u8> {
        context.get::<dyn Power>()?.off().await?;
        context.output.done()
    }
}

/// Cuts power
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  {path} off\n  {path} off --destroy")]
struct VirtualOff {
    /// Destroy the virtual device afterwards
    #[arg(long)]
    destroy: bool,
}

impl Say for VirtualOff {
    const NAME: &'static str = Off::NAME;

    async fn run(self, context: &Context) -> Result<u8> {
        context.device().call(&context.path, "off", vec![json!(self.destroy)]).await?;
        context.output.done()
    }
}

/// Cuts power, waits, and applies it again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  {path} cycle\n  {path} cycle --wait 10")]
struct Cycle {
    /// How long the power stays off: seconds, or a time such as 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2")]
    wait: Span,
}

impl Say for Cycle {
    const NAME: &'static str = "cycle";

    async fn run(self, context: &Context) -> Result<u8> {
        let wait = self.wait.as_duration();
        if let Ok(cycle) = context.get::<dyn PowerCycle>() {
            cycle.cycle(Some(wait.as_secs_f64())).await?;
            return context.output.done();
        }
        let power = context.get::<dyn Power>()?;
        power.off().await?;
        if !context.output.is_json() {
            context.output.note(format_args!("off, on again in {wait:?}"));
        }
        tokio::time::sleep(wait).await;
        power.on().await?;
        context.output.done()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Shows all readings of each answer: one or several. For a meter whose answer does not end, --count limits the number
of readings; without --count they are shown until Ctrl-C, and the exit code is 130.

Examples:
  {path} read
  {path} read --count 5
  {path} read --count 0 --interval 500ms
  {path} read --output json

JSON: {\"voltage\": volts, \"current\": amperes, \"apparent_power\": volt-amperes} for each reading")]
struct Read {
    /// How often to ask the meter, 1 by default; 0 continues until Ctrl-C
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
    /// The wait between two readings: seconds, or a time such as 500ms
    #[arg(short, long, value_name = "TIME", default_value = "1")]
    interval: Span,
}

impl Say for Read {
    const NAME: &'static str = "read";

    /// Asks the meter `count` times, and shows all readings of each answer.
    async fn run(self, context: &Context) -> Result<u8> {
        let power = context.get::<dyn Power>()?;
        let count = self.count.unwrap_or(1);
        // Without a count, all readings of one answer.
        let most = self.count.filter(|count| *count > 0);
        let mut asked = 0_u64;
        // A person may not expect a meter that never ends.
        let mut hint = self.count.is_none() && context.output.environment().err_is_terminal();
        loop {
            let mut shown = 0_u64;
            let pass = pass(power.read().await?, most, |reading| {
                shown += 1;
                if shown == 2 && std::mem::take(&mut hint) {
                    context.output.note("The meter sends further readings; Ctrl-C ends it.");
                }
                show(context, reading)
            })
            .await?;
            asked = asked.saturating_add(1);
            if pass == Pass::GoesOn || asked == count {
                return Ok(SUCCESS);
            }
            tokio::time::sleep(self.interval.as_duration()).await;
        }
    }
}

/// How a meter's answer ended.
#[derive(Debug, PartialEq)]
enum Pass {
    Ended,
    /// The meter has more readings than were wanted.
    GoesOn,
}

/// Shows the readings of one answer, at most `most`.
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

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Checks a meter of `readings`, after which it ends or stays silent.
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
