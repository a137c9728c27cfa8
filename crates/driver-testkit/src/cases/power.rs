//! Cases of `Power`.

use futures_util::StreamExt;
use futures_util::future::join_all;
use jumpstarter_driver_core::{ErrorKind, PowerReading, Result, ValueStream};

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// POWER-1: `on` succeeds when on.
pub(crate) async fn on_is_idempotent(instance: &Instance) -> Outcome {
    let power = instance.power();
    for what in ["`on`", "`on` when on", "`on` when on, again"] {
        instance.doing(what);
        power.on().await.must(what)?;
    }
    power.off().await.must("`off` after that")
}

/// POWER-2: `off` succeeds when off, also before the first `on`.
pub(crate) async fn off_is_idempotent(instance: &Instance) -> Outcome {
    let power = instance.power();
    for what in ["`off` before any `on`", "`off` when off"] {
        instance.doing(what);
        power.off().await.must(what)?;
    }
    power.on().await.must("`on` after that")?;
    power.off().await.must("`off` when on")?;
    power.off().await.must("`off` when off again")
}

/// POWER-3: `on` and `off` from many tasks at once all end, with success or `Aborted`, and both
/// work afterwards.
pub(crate) async fn raced_switches_end_in_order(instance: &Instance) -> Outcome {
    instance.doing("switching from 16 tasks at once");
    let tasks = (0..16).map(|number| {
        let power = instance.power();
        tokio::spawn(
            async move { if number % 2 == 0 { power.on().await } else { power.off().await } },
        )
    });
    for outcome in join_all(tasks).await {
        match outcome.map_err(|error| format!("a raced switch panicked: {error}"))? {
            Err(error) if error.kind() != ErrorKind::Aborted => {
                return Err(format!("a raced switch failed: {error:?}"));
            }
            _ => {}
        }
    }
    let power = instance.power();
    instance.doing("switching after a race");
    // Whichever switch won: from here on the state is known.
    drop(power.off().await);
    power.on().await.must("`on` after a race")?;
    power.off().await.must("`off` after a race")
}

/// POWER-4: `read` is `Unimplemented`, or yields readings that are finite and not negative.
pub(crate) async fn readings_are_plausible(instance: &Instance) -> Outcome {
    instance.power().on().await.must("`on`")?;
    let Some(mut readings) = measured(instance.power().read().await)? else { return Ok(()) };
    for number in 1..=2 {
        instance.doing(format!("waiting for reading {number}"));
        let Some(reading) = readings.next().await else { break };
        let PowerReading { voltage, current } = reading.must("a reading")?;
        let plausible = |value: f64| value.is_finite() && value >= 0.0;
        ensure!(plausible(voltage) && plausible(current), "a reading is {voltage} V, {current} A");
    }
    Ok(())
}

/// POWER-5: a stream of readings can be dropped at any moment, and others go on or can be opened.
pub(crate) async fn dropped_reading_can_be_repeated(instance: &Instance) -> Outcome {
    let power = instance.power();
    instance.doing("opening readings");
    let Some(first) = measured(power.read().await)? else { return Ok(()) };
    let second = power.read().await.must("a second `read` at once")?;
    drop(first);
    drop(second);
    let mut third = power.read().await.must("`read` after dropped ones")?;
    instance.doing("waiting for a reading after dropped ones");
    match third.next().await {
        Some(reading) => reading.must("a reading after dropped ones").map(drop),
        None => Err("`read` after dropped ones ended without a reading".to_owned()),
    }
}

fn measured(
    readings: Result<ValueStream<PowerReading>>,
) -> std::result::Result<Option<ValueStream<PowerReading>>, String> {
    match readings {
        Ok(readings) => Ok(Some(readings)),
        Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(None),
        Err(error) => Err(format!("`read` failed: {error:?}")),
    }
}
