//! The exporters under test, both of one configuration: ours and the one in Python.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Signal, StopPlan};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::process::ChildStdout;

use crate::measure::started;

/// Our programs, as `cargo xtask bench` builds them.
pub(crate) const JMP: &str = "target/release/jmp";
pub(crate) const J: &str = "target/release/j";
/// The load generator.
pub(crate) const LOAD: &str = "target/release/examples/load";

/// What both serve.
pub(crate) const CONFIG: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: bench}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
";

/// How long an exporter may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Our exporter, on a Unix socket and on a port. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Ours {
    child: Child,
    _output: BufReader<ChildStdout>,
    /// From its start to the line that says that it listens.
    pub(crate) start_up: Duration,
    pub(crate) socket: String,
    pub(crate) port: String,
    _folder: TempDir,
}

impl Ours {
    /// Starts this build's; its images go below `images`.
    pub(crate) async fn start(config: &str, images: &Path) -> Result<Self> {
        built(JMP)?;
        Self::start_program(Path::new(JMP), config, images).await
    }

    /// Starts that of another `jmp`.
    pub(crate) async fn start_program(jmp: &Path, config: &str, images: &Path) -> Result<Self> {
        // The path of a socket must be short.
        let folder = tempfile::tempdir()?;
        let (file, socket) = (folder.path().join("exporter.yaml"), folder.path().join("socket"));
        fs::write(&file, config)?;
        let command = Command::new(jmp)
            .args(["run", "--exporter-config"])
            .arg(&file)
            .args(["--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure", "--listen-unix"])
            .arg(&socket)
            .env("TMPDIR", fs::canonicalize(images)?);
        let began = Instant::now();
        let (child, line, output) = started(command).await.context("starting `jmp run`")?;
        let start_up = began.elapsed();
        let port = line.split_whitespace().find_map(|word| word.strip_prefix("tcp://"));
        let port =
            port.ok_or_else(|| Error::internal(format!("`{line}` names no port")))?.to_owned();
        let socket = socket.display().to_string();
        Ok(Self { child, _output: output, start_up, socket, port, _folder: folder })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let stopped = self.child.stop(StopPlan::new().signal(Signal::TERM, GRACE)).await;
        stopped.map(drop).map_err(|error| Error::internal("ending `jmp run`").with_source(error))
    }
}

/// That `cargo xtask bench` has built a program.
pub(crate) fn built(program: &str) -> Result<()> {
    match Path::new(program).is_file() {
        true => Ok(()),
        false => Err(Error::failed_precondition(format!("{program} is not built"))
            .with_hint("run `cargo xtask bench`")),
    }
}

/// The resident memory of the largest process of `pid` and its descendants, in bytes: a command may
/// serve in a separate process.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    let own = kibibytes
        .ok_or_else(|| Error::internal("a process does not say how much memory it has"))?
        * 1024.0;
    let mut largest = own;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // It may have ended meanwhile.
            largest = largest.max(resident(child).unwrap_or(0.0));
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_dead_one_has_not() {
        let own = resident(std::process::id()).unwrap();
        assert!(own > 1e5 && own < 1e10, "{own}");
        resident(u32::MAX).unwrap_err();
    }
}
