//! This build beside another `jmp`, such as that of the last release: the same work for both, in
//! turns, in one run.

use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;

use crate::data::{Codec, Data};
use crate::effort::Effort;
use crate::exporter::load;
use crate::measure::{alternate, figure, finish, timed};
use crate::python::connected;
use crate::served::{CONFIG, JMP, LOAD, Ours, built, resident};
use crate::table::{Row, Target};
use crate::unit::Unit;

pub(crate) const TITLE: &str = "This build, beside the other one";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "both serve the same file on a Unix socket; the load generator of this build is the client of both",
    "command: `jmp j power on`, start to finish, each on its own exporter; check: `jmp check` of 500 drivers",
    "medians; turns alternate",
];

/// Nothing is slower than the other by more than 5 %.
const TARGET: Target = Target::AtLeast(0.95);
/// Times of a few milliseconds vary more than that from turn to turn.
const SHORT: Target = Target::Within(Duration::from_millis(2));

/// Measures both.
pub(crate) async fn measure(effort: Effort, other: &Path) -> Result<Vec<Row>> {
    built(LOAD)?;
    let data = Data::new(Path::new("target/bench"), effort.size)?;
    let outputs = data.outputs()?;
    let mut rows = start_up(effort, other, outputs.path()).await.context("starting exporters")?;
    let ours = Ours::start(CONFIG, outputs.path()).await?;
    let theirs = Ours::start_program(other, CONFIG, outputs.path()).await?;
    let size = data.bytes().to_string();
    let (calls, echo) = (effort.calls().to_string(), effort.echo().to_string());
    let mut work = vec![
        ("calls, one at a time", Unit::Calls, words(["calls", &calls, "1"])),
        ("calls, 16 in flight", Unit::Calls, words(["calls", &calls, "16"])),
        ("echo", Unit::Throughput, words(["echo", &echo])),
        ("flash, raw", Unit::Throughput, words(["flash", &size])),
    ];
    for (name, codec) in [("flash, zstd", Codec::Zstd), ("flash, gzip", Codec::Gzip)] {
        let file = data.compressed(codec).await?.display().to_string();
        work.push((name, Unit::Throughput, words(["flash", &size, codec.name(), &file])));
    }
    for (what, unit, words) in work {
        let one = async |exporter: &Ours| figure(load(&exporter.socket, []).args(&words)).await;
        let turns = effort.turns(5);
        let figures =
            alternate(turns, async || one(&ours).await, Some(async || one(&theirs).await));
        rows.push(row(
            what,
            unit,
            figures.await.with_context(|| format!("measuring {what}"))?,
            TARGET,
        ));
    }
    rows.extend(commands(effort, other, [&ours, &theirs], outputs.path()).await?);
    ours.stop().await?;
    theirs.stop().await?;
    Ok(rows)
}

async fn start_up(effort: Effort, other: &Path, images: &Path) -> Result<Vec<Row>> {
    let mut memory = [Vec::new(), Vec::new()];
    let mut start = async |program: &Path, side: usize| {
        let exporter = Ours::start_program(program, CONFIG, images).await?;
        memory[side].push(resident(exporter.pid())?);
        let time = exporter.start_up;
        exporter.stop().await?;
        Ok::<_, Error>(time.as_secs_f64())
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..effort.turns(11) {
        times[0].push(start(Path::new(JMP), 0).await?);
        times[1].push(start(other, 1).await?);
    }
    Ok(vec![
        row("start-up", Unit::Time, times, SHORT),
        row("memory, idle", Unit::Size, memory, TARGET),
    ])
}

/// Programs that begin and end.
async fn commands(
    effort: Effort,
    other: &Path,
    [ours, theirs]: [&Ours; 2],
    folder: &Path,
) -> Result<Vec<Row>> {
    let power = async |program: &Path, exporter: &Ours| {
        let command = Command::new(program).args(["j", "power", "on"]);
        Ok(timed(connected(command, &exporter.socket)).await?.as_secs_f64())
    };
    let turns = effort.turns(21);
    let figures = alternate(
        turns,
        async || power(Path::new(JMP), ours).await,
        Some(async || power(other, theirs).await),
    );
    let command = row("command", Unit::Time, figures.await.context("running `jmp j`")?, SHORT);
    let file = folder.join("large.yaml");
    let drivers: String = (0..500).map(|n| format!("  d{n}: {{type: mock-power}}\n")).collect();
    std::fs::write(&file, format!("export:\n{drivers}")).context("writing an exporter file")?;
    let check = async |program: &Path| {
        let began = Instant::now();
        finish(Command::new(program).arg("check").arg(&file)).await?;
        Ok(began.elapsed().as_secs_f64())
    };
    let figures =
        alternate(turns, async || check(Path::new(JMP)).await, Some(async || check(other).await));
    let check = row("check", Unit::Time, figures.await.context("running `jmp check`")?, SHORT);
    Ok(vec![command, check])
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn row(what: &str, unit: Unit, [ours, theirs]: [Vec<f64>; 2], target: Target) -> Row {
    Row { what: what.to_owned(), other: "the other".to_owned(), unit, ours, theirs, target }
}
