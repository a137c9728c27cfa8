//! A device of a lab, through a controller and its router, in turns with the exporter and the
//! client in Python.

use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_client::lab::{Lab, Wanted};
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
use jumpstarter_driver_core::Secret;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Sink};
use jumpstarter_test_controller::{Kind, Options, TestController};
use jumpstarter_tests::python_client::PythonClient;
use jumpstarter_tests::python_exporter::PythonExporter;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

mod bare;

use crate::data::Data;
use crate::effort::Effort;
use crate::library::Library;
use crate::measure::{alternate, figure, timed};
use crate::python::Python;
use crate::served::{JMP, built, resident};
use crate::table::{Row, Target};
use crate::unit::Unit;

/// What both exporters export.
const EXPORT: &str = "
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
";
const CLIENT: &str = "bench";
/// The exporters, each with a label of its name.
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
/// What acquisition may add to what the controller takes for its answers.
const MORE: Duration = Duration::from_millis(50);
/// A whole `jmp shell` whose command does nothing.
const SHELL: f64 = 0.3;
/// The memory of an exporter without a lease.
const IDLE: f64 = 15.0 * 1024.0 * 1024.0;
/// From a start to its effect.
const START: Duration = Duration::from_secs(60);
/// How often an effect is looked for that nothing announces.
const LOOK: Duration = Duration::from_millis(1);
/// Says where the shell's device is, and waits for its end.
const TELL_HOST: &str = r#"printf 'host=%s\n' "$JUMPSTARTER_HOST" && exec sleep 1000000"#;

pub(crate) const TITLE: &str = "A device of a lab, beside the exporter and the client in Python";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "controller and router: those of the tests, in this process, over TLS; both exporters are joined all the time",
    "shell: `jmp shell -l LABEL -- true`, the whole process with its lease and its release; the other is `jmp` in Python on the exporter \
     in Python",
    "lease: from the request until `power.on()` is answered, with our client library; beside it the bare answers: a lease, and a Dial \
     that is not refused, asked for again and again",
    "calls: `power.on()`, one at a time; echo: one stream in frames of 64 KiB, counted once; flash: a file of random bytes; all inside \
     of one `jmp shell`",
    "Python client: the one in Python in our shell on our exporter",
    "two bare ends: two gRPC clients of the router (tonic), each on a thread, send one byte there and back at a time, and frames of \
     64 KiB; ours is the client library without a shell",
    "medians; turns alternate",
];

/// A controller and the exporters that joined it.
struct Bench<'a> {
    effort: Effort,
    python: Option<&'a Python>,
    controller: TestController,
    folder: TempDir,
    /// Our exporter.
    ours: Child,
    /// The exporter and the client in Python.
    theirs: Option<(PythonExporter, PythonClient)>,
}

/// Measures everything.
pub(crate) async fn measure(effort: Effort, python: Option<&Python>) -> Result<Vec<Row>> {
    built(JMP)?;
    let data = Data::new(Path::new("target/bench"), effort.size)?;
    let random = data.random()?;
    let bench = Bench::start(effort, python).await?;
    let mut rows = vec![bench.memory()?, bench.shell().await?, bench.lease().await?];
    rows.extend(bench.rates(&random).await?);
    rows.extend(bench.beside_bare_ends().await?);
    if let Some((exporter, _)) = bench.theirs {
        exporter.stop().await?;
    }
    Ok(rows)
}

impl<'a> Bench<'a> {
    async fn start(effort: Effort, python: Option<&'a Python>) -> Result<Self> {
        let controller = TestController::start(Options::default()).await?;
        controller.add_client(CLIENT, &[]);
        for name in [OURS, THEIRS] {
            controller.add_exporter(name, &[("kind", name)]);
        }
        let folder = tempfile::tempdir()?;
        let client = controller.client_file(CLIENT);
        std::fs::write(folder.path().join("client.yaml"), &client)?;
        let file = folder.path().join("exporter.yaml");
        std::fs::write(&file, controller.exporter_file(OURS, EXPORT))?;
        let ours = Command::new(JMP).arg("run").arg(&file).env("TMPDIR", folder.path());
        let ours = ours.spawn().await.map_err(starting)?;
        let theirs = match python {
            None => None,
            Some(python) => {
                let file = controller.exporter_file(THEIRS, EXPORT);
                let exporter = PythonExporter::join(python.folder(), &file).await?;
                Some((exporter, PythonClient::new(python.folder(), &client)?))
            }
        };
        let bench = Self { effort, python, controller, folder, ours, theirs };
        bench.joined(OURS).await?;
        if bench.theirs.is_some() {
            bench.joined(THEIRS).await?;
        }
        Ok(bench)
    }

    async fn joined(&self, name: &str) -> Result<()> {
        let joined = async || {
            while !self.controller.has_status_stream(name) {
                sleep(LOOK).await
            }
        };
        timeout(START, joined()).await.map_err(|_| {
            Error::unavailable(format!("{name} does not join\n{}", self.ours.stderr_tail()))
        })
    }

    /// Until the exporter has no lease, so that the next one does not wait for its end.
    async fn free(&self, name: &str) -> Result<()> {
        let free = async || {
            while self.controller.lease_of(name).is_some()
                || self.controller.status_of(name).is_none_or(|status| !is_available(status))
            {
                sleep(LOOK).await;
            }
        };
        timeout(START, free()).await.map_err(|_| Error::unavailable("a lease does not end"))
    }

    fn memory(&self) -> Result<Row> {
        let theirs = self.theirs.as_ref().map(|(exporter, _)| resident(exporter.pid()));
        Ok(Row {
            what: "memory, idle".to_owned(),
            other: "Python".to_owned(),
            unit: Unit::Size,
            ours: vec![resident(self.ours.pid())?],
            theirs: theirs.transpose()?.into_iter().collect(),
            target: Target::Absolute(IDLE),
        })
    }

    /// Our `jmp shell` with this command, on our exporter.
    fn our_shell(&self, words: &[&str]) -> Command {
        Command::new(JMP)
            .args(["shell", "-l", "kind=ours", "--client-config"])
            .arg(self.folder.path().join("client.yaml"))
            .arg("--")
            .args(words)
    }

    async fn shell(&self) -> Result<Row> {
        let ours = async || {
            self.free(OURS).await?;
            Ok(timed(self.our_shell(&["true"])).await.context("our shell")?.as_secs_f64())
        };
        let theirs = self.theirs.as_ref().map(|(_, client)| {
            async move || {
                self.free(THEIRS).await?;
                let command = client.jmp(&["shell", "-l", "kind=theirs", "--", "true"]);
                Ok(timed(command).await.context("the shell in Python")?.as_secs_f64())
            }
        });
        let [ours, theirs] = alternate(self.effort.turns(11), ours, theirs).await?;
        Ok(row("shell", "Python pair", Unit::Time, [ours, theirs], Target::Absolute(SHELL)))
    }

    fn lab(&self) -> Result<Lab> {
        let token = Secret::new(self.controller.token(Kind::Client, CLIENT));
        let identity = Identity::client("lab", CLIENT, token);
        let trust = Trust::Authorities(self.controller.ca_bundle().into_bytes());
        let options = ControllerOptions::new(self.controller.endpoint().parse()?, identity);
        Ok(Lab::new(Controller::new(options.trust(trust))?))
    }

    async fn lease(&self) -> Result<Row> {
        let wanted = || Wanted::selector("kind=ours").duration(Duration::from_secs(600));
        let ours = async || {
            self.free(OURS).await?;
            let lab = self.lab()?;
            let began = Instant::now();
            let lease = lab.lease(wanted(), |_| ()).await?;
            let exporter = lease.connect().await?;
            exporter.device().get::<dyn Power>("power")?.on().await?;
            let took = began.elapsed().as_secs_f64();
            exporter.device().close().await?;
            lease.release().await?;
            Ok(took)
        };
        let bare = async || {
            self.free(OURS).await?;
            let lab = self.lab()?;
            bare::acquire(&lab, &wanted()).await
        };
        let figures = alternate(self.effort.turns(11), ours, Some(bare)).await?;
        Ok(row("lease", "bare answers", Unit::Time, figures, Target::Within(MORE)))
    }

    /// What goes through the router, with our client and with the one in Python.
    async fn rates(&self, random: &Path) -> Result<Vec<Row>> {
        self.free(OURS).await?;
        let ours = Shell::start(self.our_shell(&["sh", "-c", TELL_HOST])).await?;
        let theirs = match &self.theirs {
            None => None,
            Some((_, client)) => {
                let words = ["shell", "-l", "kind=theirs", "--", "sh", "-c", TELL_HOST];
                Some(Shell::start(client.jmp(&words)).await?)
            }
        };
        let library = Library::new(&ours.host);
        let (calls, slow, echo) =
            (self.effort.calls(), self.effort.slow_calls().to_string(), self.effort.echo());
        let size = std::fs::metadata(random)?.len().to_string();
        let (bytes, file) = (echo.to_string(), random.display().to_string());
        let at_least = |part| Target::AtLeast(part);
        let case = |what, unit, words: Vec<String>| Case { bench: self, what, unit, words };
        let case_calls = case("calls", Unit::Calls, vec!["calls".into(), slow]);
        let case_echo = case("echo", Unit::Throughput, vec!["echo".into(), bytes]);
        let case_flash = case("flash", Unit::Throughput, vec!["flash".into(), size, file]);
        let there = theirs.as_ref().map(|shell| shell.host.as_str());
        let mut rows = vec![
            case_calls.row(there, at_least(5.0), async || library.calls(calls).await).await?,
            case_echo.row(there, at_least(3.0), async || library.echo(echo).await).await?,
            case_flash.row(there, at_least(3.0), async || library.flash(random).await).await?,
        ];
        if let Some(python) = self.python {
            for case in [case_calls, case_echo, case_flash] {
                let ours = async || figure(python.client(&ours.host, case.words())).await;
                let row = case.row(there, at_least(2.0), ours).await?;
                rows.push(Row { what: format!("{}, Python client", case.what), ..row });
            }
        }
        drop((ours, theirs));
        // The shells were killed: what they leased is released here.
        for name in [OURS, THEIRS] {
            self.controller.lease_of(name).inspect(|lease| self.controller.release(lease));
        }
        Ok(rows)
    }

    /// What our two ends make of what two bare ends would get through the same router.
    async fn beside_bare_ends(&self) -> Result<Vec<Row>> {
        self.free(OURS).await?;
        let lab = self.lab()?;
        let wanted = Wanted::selector("kind=ours").duration(Duration::from_secs(3600));
        let lease = lab.lease(wanted, |_| ()).await?;
        let library = Library::leased(lease.clone());
        let (calls, echo) = (self.effort.calls(), self.effort.echo());
        let turns = self.effort.turns(5);
        let bare = &self.controller;
        let beside = [
            alternate(
                turns,
                async || library.calls(calls).await,
                Some(async || bare::messages(bare, calls).await),
            )
            .await?,
            alternate(
                turns,
                async || library.echo(echo).await,
                Some(async || bare::echo(bare, echo).await),
            )
            .await?,
        ];
        lease.release().await?;
        let [calls, echo] = beside;
        let target = Target::AtLeast(0.8);
        Ok(vec![
            row("calls", "two bare ends", Unit::Calls, calls, target),
            row("echo", "two bare ends", Unit::Throughput, echo, target),
        ])
    }
}

/// A figure that the client in Python takes, too.
struct Case<'a> {
    bench: &'a Bench<'a>,
    what: &'a str,
    unit: Unit,
    /// Those of the client in Python.
    words: Vec<String>,
}

impl Case<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// `there` is the device of the shell in Python.
    async fn row(
        &self,
        there: Option<&str>,
        target: Target,
        ours: impl AsyncFnMut() -> Result<f64>,
    ) -> Result<Row> {
        let theirs = there
            .zip(self.bench.python)
            .map(|(there, python)| async move || figure(python.client(there, self.words())).await);
        let figures = alternate(self.bench.effort.turns(5), ours, theirs).await;
        let figures = figures.with_context(|| format!("measuring {}", self.what))?;
        Ok(row(self.what, "Python pair", self.unit, figures, target))
    }
}

/// A `jmp shell` whose command waits. Dropping it kills it; its lease stays.
struct Shell {
    _child: Child,
    host: String,
}

impl Shell {
    async fn start(command: Command) -> Result<Self> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let each = move |line: &str| {
            if let Some(host) = line.strip_prefix("host=") {
                // Nobody waits for it any more when it comes too late.
                drop(tell.send(host.to_owned()));
            }
        };
        let child = command.stdout(Sink::lines(each)).spawn().await.map_err(starting)?;
        let host = timeout(START, told.recv()).await.ok().flatten();
        let host = host.ok_or_else(|| Error::unavailable(child.stderr_tail()))?;
        Ok(Self { _child: child, host })
    }
}

fn row(what: &str, other: &str, unit: Unit, figures: [Vec<f64>; 2], target: Target) -> Row {
    let [ours, theirs] = figures;
    Row { what: what.to_owned(), other: other.to_owned(), unit, ours, theirs, target }
}

fn is_available(status: jumpstarter_test_controller::proto::v1::ExporterStatus) -> bool {
    status == jumpstarter_test_controller::proto::v1::ExporterStatus::Available
}

fn starting(error: jumpstarter_supervise::SuperviseError) -> Error {
    Error::internal("starting what is measured").with_source(error)
}
