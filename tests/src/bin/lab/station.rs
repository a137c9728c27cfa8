//! A controller with exporters and clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jumpstarter_client::Exporter;
use jumpstarter_client::lab::{Lab, Lease, Wanted};
use jumpstarter_config::ExporterConfig;
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
use jumpstarter_daemon::{RunOptions, run};
use jumpstarter_driver_core::Secret;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Sink};
use jumpstarter_test_controller::{Kind, Options, TestController};
use tokio_util::task::AbortOnDropHandle;

const EXPORT: &str = "{power: {type: mock-power}, echo: {type: echo}}";
/// How long anything may take that is no outage.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A controller, and the folder of its exporters' files.
pub(crate) struct Station {
    pub(crate) controller: TestController,
    pub(crate) folder: tempfile::TempDir,
}

impl Station {
    pub(crate) async fn start() -> Result<Self> {
        let controller = TestController::start(Options::default()).await?;
        Ok(Self { controller, folder: tempfile::tempdir()? })
    }

    /// An exporter in a separate process, which has joined.
    pub(crate) async fn process(&self, name: &str, rest: &str) -> Result<Child> {
        let path = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, self.file(name, rest))?;
        let temporary = self.folder.path().join("tmp").join(name);
        std::fs::create_dir_all(&temporary)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["jmp", "run", "--log-level", "warning"])
            .arg(path)
            .env("TMPDIR", temporary)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(Sink::Null)
            .stderr(Sink::Tail(64 << 10))
            .spawn()
            .await?;
        self.joined(name).await?;
        Ok(child)
    }

    /// An exporter in this process, which has joined.
    pub(crate) async fn task(&self, name: &str) -> Result<AbortOnDropHandle<Result<()>>> {
        let config = ExporterConfig::parse(&self.file(name, ""), "exporter.yaml");
        let config = config.map_err(|faults| Error::internal(faults.to_string()))?;
        let running = tokio::spawn(run(RunOptions::new(config), |_| Ok(())));
        self.joined(name).await?;
        Ok(AbortOnDropHandle::new(running))
    }

    fn file(&self, name: &str, rest: &str) -> String {
        self.controller.add_exporter(name, &[("board", "mock")]);
        self.controller.exporter_file(name, EXPORT) + rest
    }

    async fn joined(&self, name: &str) -> Result<()> {
        until(&format!("{name} joins"), || self.controller.has_status_stream(name)).await
    }

    /// A client.
    pub(crate) fn client(&self, name: &str) -> Result<Lab> {
        self.controller.add_client(name, &[]);
        let token = Secret::new(self.controller.token(Kind::Client, name));
        let trust = Trust::Authorities(self.controller.ca_bundle().into_bytes());
        let identity = Identity::client("lab", name, token);
        let options = ControllerOptions::new(self.controller.endpoint().parse()?, identity);
        Ok(Lab::new(Controller::new(options.trust(trust))?))
    }
}

/// A lease of any exporter, and a connection to it that is ready.
pub(crate) async fn leased(lab: &Lab) -> Result<(Arc<Lease>, Exporter)> {
    let wanted = Wanted::selector("board=mock").acquisition_limit(LIMIT);
    let lease = lab.lease(wanted, |_| {}).await?;
    let exporter = lease.connect().await?;
    exporter.wait_ready(LIMIT).await?;
    Ok((lease, exporter))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > LIMIT {
            return Err(Error::deadline_exceeded(format!("waited in vain: {what}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Figures of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    /// Resident memory, in KiB.
    pub(crate) memory: usize,
    pub(crate) children: usize,
}

impl Usage {
    /// Those of a process; `None` for one that has ended.
    pub(crate) fn of(process: u32) -> Option<Self> {
        let folder = std::path::PathBuf::from(format!("/proc/{process}"));
        let descriptors = std::fs::read_dir(folder.join("fd")).ok()?.count();
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory = memory.split_whitespace().next()?.parse().ok()?;
        let threads = std::fs::read_dir(folder.join("task")).ok()?.flatten();
        let children = threads.map(|task| std::fs::read_to_string(task.path().join("children")));
        let children = children.flatten().map(|list| list.split_whitespace().count()).sum();
        Some(Self { descriptors, memory, children })
    }
}
