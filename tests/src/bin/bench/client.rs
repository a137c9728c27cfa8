//! Our client and `j`, beside the Python ones, on both exporters.

use std::path::Path;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;
use jumpstarter_tests::python_exporter::PythonExporter;

use crate::data::Data;
use crate::effort::Effort;
use crate::library::Library;
use crate::measure::{alternate, figure, timed};
use crate::python::{Python, connected};
use crate::served::{CONFIG, J, Ours, built};
use crate::table::{Row, Target};
use crate::unit::Unit;

pub(crate) const TITLE: &str = "Client, beside the one in Python";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "ours: this project's client library on one thread; each turn connects anew, which is not in the figure",
    "calls: `power.on()`, one at a time; echo: one stream in frames of 64 KiB, counted once; flash: a file of random bytes",
    "j power on: the whole process, its start included",
    "medians; turns alternate",
];

/// Measures everything.
pub(crate) async fn measure(effort: Effort, python: Option<&Python>) -> Result<Vec<Row>> {
    built(J)?;
    let data = Data::new(Path::new("target/bench"), effort.size)?;
    let (random, outputs) = (data.random()?, data.outputs()?);
    let ours = Ours::start(CONFIG, outputs.path()).await?;
    let mut rows = Vec::new();
    let case = |exporter, way, address, slow| Case {
        effort,
        exporter,
        way,
        address,
        slow,
        random: &random,
        python,
    };
    for (way, address) in [("Unix", &ours.socket), ("TCP", &ours.port)] {
        rows.extend(case("our exporter", way, address.clone(), false).measure().await?);
    }
    rows.push(j(effort, &ours.socket, python).await?);
    if let Some(python) = python {
        let socket = PythonExporter::start_on_socket(python.folder(), CONFIG).await?;
        rows.extend(case("Python's", "Unix", socket.host_port(), true).measure().await?);
        socket.stop().await?;
        let port = PythonExporter::start(python.folder(), CONFIG).await?;
        rows.extend(case("Python's", "TCP", port.host_port(), true).measure().await?);
        port.stop().await?;
    }
    ours.stop().await?;
    Ok(rows)
}

/// One way to one exporter.
struct Case<'a> {
    effort: Effort,
    exporter: &'a str,
    way: &'a str,
    address: String,
    /// Whether the exporter is the slow part.
    slow: bool,
    random: &'a Path,
    python: Option<&'a Python>,
}

impl Case<'_> {
    async fn measure(&self) -> Result<Vec<Row>> {
        let library = Library::new(&self.address);
        let few = self.effort.slow_calls();
        let (calls, echo) = (if self.slow { few } else { self.effort.calls() }, self.effort.echo());
        let size = std::fs::metadata(self.random)?.len();
        let random = self.random.display().to_string();
        Ok(vec![
            self.row(
                "calls",
                Unit::Calls,
                async || library.calls(calls).await,
                ["calls", &few.to_string()],
            )
            .await?,
            self.row(
                "echo",
                Unit::Throughput,
                async || library.echo(echo).await,
                ["echo", &echo.to_string()],
            )
            .await?,
            self.row(
                "flash",
                Unit::Throughput,
                async || library.flash(self.random).await,
                ["flash", &size.to_string(), &random],
            )
            .await?,
        ])
    }

    async fn row<const N: usize>(
        &self,
        what: &str,
        unit: Unit,
        ours: impl AsyncFnMut() -> Result<f64>,
        words: [&str; N],
    ) -> Result<Row> {
        let what = format!("{what}, {}, {}", self.way, self.exporter);
        let theirs = self
            .python
            .map(|python| async move || figure(python.client(&self.address, words)).await);
        let figures = alternate(self.effort.turns(5), ours, theirs).await;
        let [ours, theirs] = figures.with_context(|| format!("measuring {what}"))?;
        Ok(Row { what, other: "Python client".into(), unit, ours, theirs, target: Target::None })
    }
}

/// `j power on`, start to finish.
async fn j(effort: Effort, address: &str, python: Option<&Python>) -> Result<Row> {
    let once = async |program: &Path| {
        let command = connected(Command::new(program).args(["power", "on"]), address);
        Ok(timed(command).await.context("running `j power on`")?.as_secs_f64())
    };
    let theirs = python.map(|python| async || once(&python.j()).await);
    let [ours, theirs] =
        alternate(effort.turns(11), async || once(Path::new(J)).await, theirs).await?;
    let (what, other) = ("j power on".to_owned(), "Python's j".to_owned());
    Ok(Row { what, other, unit: Unit::Time, ours, theirs, target: Target::Absolute(0.030) })
}
