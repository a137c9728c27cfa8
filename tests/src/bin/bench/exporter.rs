//! The exporter, in turns with the one in Python, under the same clients.

use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;
use jumpstarter_tests::python_exporter::PythonExporter;

use crate::data::{Codec, Data};
use crate::effort::Effort;
use crate::measure::{alternate, figure};
use crate::python::Python;
use crate::served::{CONFIG, LOAD, Ours, built, resident};
use crate::table::{Row, Target};
use crate::unit::Unit;

pub(crate) const TITLE: &str = "Exporter, beside the one in Python";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "both serve the same file on a Unix socket (start-up and memory of the one in Python: on a port); a load generator in \
     Rust, of one thread, is the client of both, and the Python client where it is named; on the same cores",
    "start-up: from the start of the process until clients can connect; memory: resident pages of the largest process, \
     idle right after it",
    "calls: `power.on()` of a driver that does nothing, by this project's client; a byte, there and back: between two threads \
     over a Unix socket, so what waking up alone takes (virtual machines whose idle cores halt take long); echo: one stream in frames of 64 KiB, counted once",
    "flash: into a file on disk, which ours syncs and renames into place, and the one in Python does not; raw: no zeros, so \
     that all is written; zstd and gzip: random digits, encoded on the wire, counted decoded; the decoder alone: the \
     same library, from memory, written nowhere",
    "medians; turns alternate",
];

const MIB: f64 = 1024.0 * 1024.0;

/// Measures everything.
pub(crate) async fn measure(effort: Effort, python: Option<&Python>) -> Result<Vec<Row>> {
    built(LOAD)?;
    let data = Data::new(Path::new("target/bench"), effort.size)?;
    let outputs = data.outputs()?;
    let mut rows =
        start_up_and_memory(effort, python, outputs.path()).await.context("starting exporters")?;
    let ours = Ours::start(CONFIG, outputs.path()).await?;
    let theirs = match python {
        Some(python) => Some(PythonExporter::start_on_socket(python.folder(), CONFIG).await?),
        None => None,
    };
    let both =
        Both { effort, ours: &ours.socket, theirs: theirs.as_ref().map(PythonExporter::host_port) };
    rows.extend(both.calls_and_bytes().await?);
    rows.extend(both.images(&data).await?);
    if let Some(python) = python {
        rows.extend(both.with_the_python_client(python, &data).await?);
    }
    ours.stop().await?;
    if let Some(theirs) = theirs {
        theirs.stop().await?;
    }
    Ok(rows)
}

/// One start of an exporter.
struct Start {
    time: Duration,
    idle: f64,
    flashed: f64,
}

async fn start_up_and_memory(
    effort: Effort,
    python: Option<&Python>,
    images: &Path,
) -> Result<Vec<Row>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..effort.turns(5) {
        let exporter = Ours::start(CONFIG, images).await?;
        let idle = resident(exporter.pid())?;
        figure(load(&exporter.socket, ["flash"]).arg(effort.size.as_bytes().to_string())).await?;
        let flashed = resident(exporter.pid())?;
        ours.push(Start { time: exporter.start_up, idle, flashed });
        exporter.stop().await?;
        if let Some(python) = python {
            let began = Instant::now();
            let exporter = PythonExporter::start(python.folder(), CONFIG).await?;
            let (time, idle) = (began.elapsed(), resident(exporter.pid())?);
            let address = exporter.host_port();
            figure(load(&address, ["flash"]).arg(effort.size.as_bytes().to_string())).await?;
            theirs.push(Start { time, idle, flashed: resident(exporter.pid())? });
            exporter.stop().await?;
        }
    }
    let row = |what: String, unit, of: fn(&Start) -> f64, limit| Row {
        what,
        other: "exporter in Python".into(),
        unit,
        ours: ours.iter().map(of).collect(),
        theirs: theirs.iter().map(of).collect(),
        target: Target::Absolute(limit),
    };
    let flashed = format!("memory, {} flashed", effort.size);
    Ok(vec![
        row("start-up".into(), Unit::Time, |start| start.time.as_secs_f64(), 0.020),
        row("memory, idle".into(), Unit::Size, |start| start.idle, 20.0 * MIB),
        row(flashed, Unit::Size, |start| start.flashed, 40.0 * MIB),
    ])
}

pub(crate) fn load<const N: usize>(address: &str, words: [&str; N]) -> Command {
    Command::new(LOAD).arg(address).args(words)
}

/// Two exporters that run.
pub(crate) struct Both<'a> {
    pub(crate) effort: Effort,
    pub(crate) ours: &'a str,
    pub(crate) theirs: Option<String>,
}

impl Both<'_> {
    /// One figure of both, by commands that are given the address.
    pub(crate) async fn row(
        &self,
        what: &str,
        unit: Unit,
        target: Target,
        ours: impl Fn(&str) -> Command,
        theirs: impl Fn(&str) -> Command,
    ) -> Result<Row> {
        let doing = || format!("measuring {what}");
        let other = self
            .theirs
            .as_ref()
            .map(|address| async || figure(theirs(address)).await.with_context(doing));
        let ours = async || figure(ours(self.ours)).await.with_context(doing);
        let [ours, theirs] = alternate(self.effort.turns(5), ours, other).await?;
        Ok(Row {
            what: what.to_owned(),
            other: "exporter in Python".into(),
            unit,
            ours,
            theirs,
            target,
        })
    }

    async fn calls_and_bytes(&self) -> Result<Vec<Row>> {
        let calls = |count: u64, flight| {
            move |address: &str| load(address, ["calls"]).arg(count.to_string()).arg(flight)
        };
        let mut rows = Vec::new();
        for (what, flight, least) in
            [("calls, one at a time", "1", 8000.0), ("calls, 16 in flight", "16", 20_000.0)]
        {
            let (many, few) =
                (calls(self.effort.calls(), flight), calls(self.effort.slow_calls(), flight));
            rows.push(self.row(what, Unit::Calls, Target::Absolute(least), many, few).await?);
        }
        rows.push(self.wake_ups().await?);
        let echo = |address: &str| load(address, ["echo"]).arg(self.effort.echo().to_string());
        rows.push(
            self.row("echo", Unit::Throughput, Target::Absolute(700.0 * MIB), echo, echo).await?,
        );
        Ok(rows)
    }

    /// The calls beside what the system needs alone to wake up who answers, and who asked.
    async fn wake_ups(&self) -> Result<Row> {
        let count = self.effort.calls().to_string();
        let ours = async || {
            figure(load(self.ours, ["calls", &count, "1"])).await.context("measuring calls")
        };
        let pass = async || figure(load("-", ["pass", &count])).await.context("measuring wake-ups");
        let [ours, theirs] = alternate(self.effort.turns(5), ours, Some(pass)).await?;
        let (what, other) =
            ("calls, one at a time".to_owned(), "a byte, there and back".to_owned());
        Ok(Row { what, other, unit: Unit::Calls, ours, theirs, target: Target::None })
    }

    async fn images(&self, data: &Data) -> Result<Vec<Row>> {
        let size = data.bytes().to_string();
        let flash = |address: &str| load(address, ["flash", &size]);
        let target = Target::Absolute(600.0 * MIB);
        let mut rows = vec![self.row("flash, raw", Unit::Throughput, target, flash, flash).await?];
        for codec in [Codec::Zstd, Codec::Gzip] {
            let file = data.compressed(codec).await?;
            let what = format!("flash, {}", codec.name());
            let flash = |address: &str| load(address, ["flash", &size, codec.name()]).arg(&file);
            let doing = || format!("measuring {what}");
            let decoder =
                async || figure(load("-", ["decode", &size, codec.name()]).arg(&file)).await;
            let ours = async || figure(flash(self.ours)).await.with_context(doing);
            let [ours, theirs] = alternate(self.effort.turns(5), ours, Some(decoder)).await?;
            let (other, unit) = ("decoder alone".to_owned(), Unit::Throughput);
            rows.push(Row {
                what: what.clone(),
                other,
                unit,
                ours,
                theirs,
                target: Target::AtLeast(0.8),
            });
            if self.theirs.is_some() {
                rows.push(self.row(&what, Unit::Throughput, Target::None, flash, flash).await?);
            }
        }
        Ok(rows)
    }

    async fn with_the_python_client(&self, python: &Python, data: &Data) -> Result<Vec<Row>> {
        let (calls, echo, size) = (
            self.effort.slow_calls().to_string(),
            self.effort.echo().to_string(),
            data.bytes().to_string(),
        );
        let (random, zstd) = (data.random()?, data.compressed(Codec::Zstd).await?);
        let mut rows = Vec::new();
        let call = |address: &str| python.client(address, ["calls", &calls]);
        rows.push(self.row("Python client: calls", Unit::Calls, Target::None, call, call).await?);
        let echo = |address: &str| python.client(address, ["echo", &echo]);
        rows.push(
            self.row("Python client: echo", Unit::Throughput, Target::None, echo, echo).await?,
        );
        let raw = |address: &str| python.client(address, ["flash", &size]).arg(&random);
        rows.push(
            self.row("Python client: flash, raw", Unit::Throughput, Target::None, raw, raw).await?,
        );
        let zstd = |address: &str| python.client(address, ["flash", &size]).arg(&zstd).arg("zstd");
        rows.push(
            self.row("Python client: flash, zstd", Unit::Throughput, Target::None, zstd, zstd)
                .await?,
        );
        Ok(rows)
    }
}
