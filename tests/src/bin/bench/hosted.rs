//! Drivers in Python that our exporter hosts, in turns with the exporter in Python.

use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_cli as _;
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;
use jumpstarter_tests::python_exporter::PythonExporter;

use crate::effort::Effort;
use crate::exporter::{Both, load};
use crate::measure::{alternate, started};
use crate::python::Python;
use crate::served::{CONFIG, LOAD, Ours, built};
use crate::table::{Row, Target};
use crate::unit::Unit;

/// Serves a file with nothing around it.
const SERVE: &str = include_str!("hosted.py");
/// What hosting may add to a start.
const MORE: Duration = Duration::from_millis(50);

pub(crate) const TITLE: &str = "Drivers in Python, hosted, beside the exporter in Python";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "ours: `jmp run` with `python: true` at each of three drivers, in three processes; a load generator in Rust, of one \
     thread, is the client of both, on a Unix socket",
    "start-up: from the start of the process until clients can connect, beside a Python script that only loads the same file and serves \
     it; the exporter in Python is `jmp run` there",
    "a lease after the first: opening, resetting and closing the device in this process, beside the same drivers natively",
    "calls: `power.on()` of a driver that does nothing; echo: one stream in frames of 64 KiB, counted once; flash: zeros left \
     nowhere out, into a temporary file",
    "medians; turns alternate",
];

/// Measures everything; nothing without Python.
pub(crate) async fn measure(effort: Effort, python: Option<&Python>) -> Result<Vec<Row>> {
    let Some(python) = python else { return Ok(Vec::new()) };
    built(LOAD)?;
    let folder = tempfile::tempdir()?;
    let hosted = hosted(python);
    let mut rows = start_up(effort, python, folder.path(), &hosted).await?;
    rows.push(lease(effort, folder.path(), &hosted).await.context("opening a device")?);
    let ours = Ours::start(&hosted, folder.path()).await?;
    let theirs = PythonExporter::start_on_socket(python.folder(), CONFIG).await?;
    let both = Both { effort, ours: &ours.socket, theirs: Some(theirs.host_port()) };
    for (what, flight) in [("calls, one at a time", "1"), ("calls, 16 in flight", "16")] {
        let count = effort.slow_calls().to_string();
        let calls = |address: &str| load(address, ["calls", &count, flight]);
        rows.push(both.row(what, Unit::Calls, Target::AtLeast(0.8), calls, calls).await?);
    }
    for (what, bytes) in [("echo", effort.echo()), ("flash", effort.size.as_bytes())] {
        let pass = |address: &str| load(address, [what, &bytes.to_string()]);
        rows.push(both.row(what, Unit::Throughput, Target::AtLeast(0.9), pass, pass).await?);
    }
    ours.stop().await?;
    theirs.stop().await?;
    Ok(rows)
}

/// The file with each of its drivers hosted.
fn hosted(python: &Python) -> String {
    let text = CONFIG.replace("}\n", ", python: true}\n").replace("bench, python: true}", "bench}");
    format!("python: {}\n{text}", python.interpreter().display())
}

async fn start_up(
    effort: Effort,
    python: &Python,
    folder: &Path,
    hosted: &str,
) -> Result<Vec<Row>> {
    let file = folder.join("exporter.yaml");
    std::fs::write(&file, CONFIG)?;
    let ours = async || {
        let exporter = Ours::start(hosted, folder).await.context("starting `jmp run`")?;
        let took = exporter.start_up.as_secs_f64();
        exporter.stop().await?;
        Ok(took)
    };
    let alone = async || {
        let command = Command::new(python.interpreter()).args(["-c", SERVE]).arg(&file);
        let began = Instant::now();
        let (_child, _line, _output) = started(command).await.context("starting Python")?;
        Ok(began.elapsed().as_secs_f64())
    };
    let exporter = async || {
        let began = Instant::now();
        let exporter = PythonExporter::start(python.folder(), CONFIG).await?;
        let took = began.elapsed().as_secs_f64();
        exporter.stop().await?;
        Ok(took)
    };
    let row = |other: &str, [ours, theirs]: [Vec<f64>; 2], target| Row {
        what: "start-up".to_owned(),
        other: other.to_owned(),
        unit: Unit::Time,
        ours,
        theirs,
        target,
    };
    let turns = effort.turns(5);
    let beside_python = alternate(turns, ours, Some(alone)).await?;
    let beside_exporter = alternate(turns, ours, Some(exporter)).await?;
    Ok(vec![
        row("Python alone", beside_python, Target::Within(MORE)),
        row("exporter in Python", beside_exporter, Target::None),
    ])
}

/// A device that is opened, reset and closed, once Python has started.
async fn lease(effort: Effort, folder: &Path, hosted: &str) -> Result<Row> {
    let place = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text)?;
        ExporterConfig::load(&file).map_err(|faults| Error::internal(faults.to_string()))
    };
    let (hosted, native) = (place("hosted.yaml", hosted)?, place("native.yaml", CONFIG)?);
    let once = async |config: &ExporterConfig| {
        let began = Instant::now();
        let device = config.open().await?;
        device.reset().await?;
        device.close().await?;
        Ok(began.elapsed().as_secs_f64())
    };
    once(&hosted).await?;
    let turns = effort.turns(11);
    let [ours, theirs] =
        alternate(turns, async || once(&hosted).await, Some(async || once(&native).await)).await?;
    let (what, other) = ("a lease after the first".to_owned(), "native".to_owned());
    Ok(Row { what, other, unit: Unit::Time, ours, theirs, target: Target::Within(MORE) })
}
