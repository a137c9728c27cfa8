//! An exporter in a separate process, which tests signal and watch.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jumpstarter_protocol::v1::{ExporterStatus, GetStatusRequest, GetStatusResponse};
use rustix::process::{Pid, Signal, kill_process};

use super::{Client, DEADLINE};

pub const EXPORT: &str = "
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  console: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://'}}
";

/// A program of the folder `examples`, which is built with the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "what is tested is how it ends by itself, or is killed"
)]
pub fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    Command::new(tests.ancestors().nth(2).unwrap().join("examples").join(name))
}

#[expect(clippy::disallowed_methods, reason = "it becomes the program that is tested")]
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]);
    command
}

/// A running exporter in a separate folder, which also has its temporary files.
pub struct Exporter {
    pub child: Child,
    pub folder: tempfile::TempDir,
}

impl Exporter {
    pub fn start(config: impl FnOnce(&Path) -> String) -> Self {
        Self::start_by(config, "exec \"$@\"")
    }

    /// One that joins the controller of its file, and serves metrics.
    pub fn join_by(config: impl FnOnce(&Path) -> String, script: &str) -> Self {
        Self::begin(config, script, true)
    }

    /// Started by a script for a shell, which becomes the exporter.
    pub fn start_by(config: impl FnOnce(&Path) -> String, script: &str) -> Self {
        Self::begin(config, script, false)
    }

    fn begin(config: impl FnOnce(&Path) -> String, script: &str, joins: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let file = folder.path().join("exporter.yaml");
        std::fs::write(&file, config(folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = shell(script);
        command.arg(example("serve").get_program()).arg(&file).stdin(Stdio::null());
        if !joins {
            command.arg(folder.path().join("socket"));
        }
        command.env("TMPDIR", folder.path().join("tmp")).env_remove("XDG_RUNTIME_DIR");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line,
            "ready\n",
            "{}",
            std::fs::read_to_string(folder.path().join("log")).unwrap()
        );
        Self { child, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub async fn until_logged(&self, words: &str) {
        until(
            || self.log().contains(words).then_some(()),
            || format!("`{words}` in {}", self.log()),
        )
        .await;
    }

    pub async fn code(mut self) -> (Option<i32>, String) {
        let code = until(|| self.child.try_wait().unwrap(), || "the exporter's end".to_owned())
            .await
            .code();
        assert_eq!(
            std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count(),
            0,
            "files stayed"
        );
        assert!(!self.socket().exists(), "its socket stayed");
        (code, self.log())
    }

    /// A figure of the process: `fd` and `children` are counted, `VmRSS` is in KiB.
    pub fn usage(&self, what: &str) -> usize {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        match what {
            "fd" => std::fs::read_dir(process.join("fd")).unwrap().count(),
            "children" => {
                let tasks = std::fs::read_dir(process.join("task")).unwrap().flatten();
                let children =
                    tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
                children.flatten().map(|list| list.split_whitespace().count()).sum()
            }
            "files" => std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count(),
            name => {
                let status = std::fs::read_to_string(process.join("status")).unwrap();
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub async fn until<T>(mut condition: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn status(client: &mut Client) -> GetStatusResponse {
    client.exporter.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

/// Asks as clients do, until the exporter is in that state.
pub async fn until_status(client: &mut Client, wanted: ExporterStatus) -> GetStatusResponse {
    let start = Instant::now();
    loop {
        let found = status(client).await;
        if found.status() == wanted {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{found:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
