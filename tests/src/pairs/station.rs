//! A controller with the exporter and the clients of a pair.

use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Input, Output, Signal, Sink, run_unchecked};
use jumpstarter_test_controller::proto::v1::ExporterStatus;
use jumpstarter_test_controller::{Options, TestController};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use super::{LIMIT, Pair, Peer, Programs, promise, until};

/// The exporter's name.
pub(super) const EXPORTER: &str = "e1";
/// What the clients ask for.
pub(super) const SELECTOR: &str = "board=mock";

/// How much of the exporter's log an error shows.
const LAST_LINES: usize = 20;

/// A controller with an exporter and two clients, `c1` and `c2`.
#[derive(Debug)]
pub struct Station<'a> {
    programs: &'a Programs,
    pair: Pair,
    pub(super) controller: TestController,
    pub(super) exporter: Child,
    folder: TempDir,
}

impl<'a> Station<'a> {
    /// Starts it, and waits until the exporter has joined.
    ///
    /// # Errors
    /// Those of the system; `DeadlineExceeded` if the exporter does not join.
    pub async fn start(programs: &'a Programs, pair: Pair) -> Result<Self> {
        let controller = TestController::start(Options::default()).await?;
        controller.add_exporter(EXPORTER, &[("board", "mock")]);
        let folder = tempfile::tempdir()?;
        for client in ["c1", "c2"] {
            controller.add_client(client, &[]);
            let home = folder.path().join(client);
            std::fs::create_dir_all(home.join("clients"))?;
            std::fs::write(home.join("clients/lab.yaml"), controller.client_file(client))?;
            let current = "apiVersion: jumpstarter.dev/v1alpha1\nkind: UserConfig\nconfig: {current-client: lab}\n";
            std::fs::write(home.join("config.yaml"), current)?;
        }
        let hooks = folder.path().join("hooks");
        let file = controller.exporter_file(EXPORTER, &export(&hooks));
        let path = folder.path().join("exporter.yaml");
        std::fs::write(&path, file)?;
        let words = ["run", "--exporter-config", &path.to_string_lossy()];
        let command = command(programs, pair.exporter, &words, folder.path())?;
        let command = command.stdout(Sink::Tail(64 << 10)).stderr(Sink::Tail(64 << 10));
        let exporter = command.spawn().await.map_err(Error::from)?;
        let station = Self { programs, pair, controller, exporter, folder };
        let joined = until("the exporter joins", || station.controller.has_status_stream(EXPORTER));
        joined.await.with_context(|| station.log())?;
        Ok(station)
    }

    /// The pair.
    pub fn pair(&self) -> Pair {
        self.pair
    }

    /// The end of what the exporter said.
    pub fn log(&self) -> String {
        self.exporter.stdout_tail() + &self.exporter.stderr_tail()
    }

    /// The last lines of what the exporter said.
    pub(super) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// A path in a folder that is removed with this.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the hooks wrote so far.
    pub(super) fn hooks(&self) -> Vec<String> {
        let said = std::fs::read_to_string(self.path("hooks")).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }

    /// `jmp` with these words, as one of the clients.
    pub(super) fn jmp(&self, client: &str, words: &[&str]) -> Result<Command> {
        let command = command(self.programs, self.pair.client, words, self.folder.path())?;
        Ok(command.env("JMP_CLIENT_CONFIG_HOME", self.path(client)).env("NONINTERACTIVE", "1"))
    }

    /// Runs `jmp` as a client, whatever its exit code is.
    pub(super) async fn run(&self, client: &str, words: &[&str]) -> Result<Output> {
        run_unchecked(self.jmp(client, words)?, LIMIT).await.map_err(Error::from)
    }

    /// Runs `jmp` as a client, which has to succeed; what it prints.
    pub(super) async fn said(&self, client: &str, words: &[&str]) -> Result<String> {
        let output = self.run(client, words).await?;
        promise(output.status.success(), || shown(words, &output))?;
        Ok(output.stdout_text())
    }

    /// Runs a script in a shell on a new lease of `c1`, which has to end with this exit code.
    /// `$1` is a folder of this station. What it prints.
    pub(super) async fn script(&self, script: &str, code: i32) -> Result<String> {
        let folder = self.folder.path().to_string_lossy();
        let shell = ["shell", "-l", SELECTOR, "--duration", "1200", "--"];
        let words = [&shell[..], &["sh", "-c", script, "sh", &folder]].concat();
        let output = self.run("c1", &words).await?;
        promise(output.status.code() == Some(code), || shown(&words, &output))?;
        self.is_free().await?;
        Ok(output.stdout_text())
    }

    /// A shell of a client that runs a script, with its lines.
    pub(super) async fn start_shell(
        &self,
        client: &str,
        options: &[&str],
        script: &str,
    ) -> Result<Shell> {
        let folder = self.folder.path().to_string_lossy();
        let words = [&["shell"], options, &["--", "sh", "-c", script, "sh", &folder]].concat();
        let command = self.jmp(client, &words)?.stdin(Input::Piped).stdout(Sink::Piped);
        let child = command.stderr(Sink::Tail(64 << 10)).spawn().await.map_err(Error::from)?;
        let gone = || Error::internal("a pipe is missing");
        let lines = BufReader::new(child.take_stdout().ok_or_else(gone)?).lines();
        Ok(Shell { input: child.take_stdin(), lines, child })
    }

    /// The statuses that the exporter has reported since `first` reports, without repetitions.
    pub(super) fn statuses(&self, first: usize) -> Vec<ExporterStatus> {
        let reports = self.controller.reports(EXPORTER).into_iter().skip(first);
        let mut statuses: Vec<_> = reports.map(|report| report.status).collect();
        statuses.dedup();
        statuses
    }

    /// Waits until the exporter serves a lease.
    pub(super) async fn is_ready(&self, lease: &str) -> Result<()> {
        until(&format!("the exporter serves {lease}"), || {
            self.controller.lease_of(EXPORTER).as_deref() == Some(lease)
                && self.controller.status_of(EXPORTER) == Some(ExporterStatus::LeaseReady)
        })
        .await
    }

    /// Waits until the exporter can be leased again, and nothing of the last lease is left.
    pub(super) async fn is_free(&self) -> Result<()> {
        let controller = &self.controller;
        until("the lease is over", || controller.leases(true).is_empty()).await?;
        self.is_available().await?;
        until("the tunnels close", || controller.router_streams() == (0, 0)).await
    }

    /// Waits until the exporter has no lease, and takes another one.
    pub(super) async fn is_available(&self) -> Result<()> {
        until("the exporter is free", || {
            self.controller.lease_of(EXPORTER).is_none()
                && self.controller.status_of(EXPORTER) == Some(ExporterStatus::Available)
        })
        .await
    }
}

/// A shell of a client.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) child: Child,
    input: Option<tokio::process::ChildStdin>,
    lines: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Shell {
    /// Waits for a line of the shell's output.
    pub(super) async fn wait_for(&mut self, wanted: &str) -> Result<()> {
        let wait = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.contains(wanted) {
                    return Ok(());
                }
            }
            Err(Error::internal(format!("the shell ended: {}", self.child.stderr_tail())))
        };
        let late = || format!("no line `{wanted}`: {}", self.child.stderr_tail());
        tokio::time::timeout(LIMIT, wait).await.map_err(|_| Error::deadline_exceeded(late()))?
    }

    /// Closes its input, and returns its exit code.
    pub(super) async fn end(&mut self) -> Result<Option<i32>> {
        drop(self.input.take());
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        let late = |_| Error::deadline_exceeded("the shell does not end");
        Ok(ended.map_err(late)?.code())
    }

    /// Signals what a terminal would: the shell and its command.
    pub(super) fn signal(&self, signal: Signal) {
        self.child.signal_group(signal);
    }

    pub(super) fn errors(&self) -> String {
        self.child.stderr_tail()
    }
}

/// What the exporter exports. The hooks write lines into a file.
fn export(hooks: &Path) -> String {
    let hooks = hooks.display();
    format!(
        "
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
  echo: {{type: jumpstarter_driver_network.driver.EchoNetwork}}
  console: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: 'loop://'}}}}
  flasher: {{type: jumpstarter_driver_opendal.driver.MockFlasher}}
hooks:
  beforeLease:
    script: 'echo before $LEASE_NAME $CLIENT_NAME | tee -a {hooks}'
    timeout: 60
  afterLease:
    script: 'j power off && echo after $LEASE_NAME $CLIENT_NAME | tee -a {hooks}'
    timeout: 60
"
    )
}

/// `jmp` of a peer, with its programs first on the path. `j` of hooks and shells is the same
/// peer's.
fn command(programs: &Programs, peer: Peer, words: &[&str], folder: &Path) -> Result<Command> {
    let bin = programs.of(peer)?;
    let mut path = bin.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    Ok(Command::new(bin.join("jmp"))
        .args(words)
        .env("PATH", path)
        .env("HOME", folder)
        // The lines of the client in Python are not broken.
        .env("COLUMNS", "500")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("JUMPSTARTER_HOST")
        .env_remove("JMP_LEASE")
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(folder))
}

/// A command that did not do what it should.
pub(super) fn shown(words: &[&str], output: &Output) -> String {
    let status = output.status;
    format!("{words:?}: {status}\n{}\n{}", output.stdout_text(), output.stderr)
}
