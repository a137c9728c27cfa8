//! An exporter with a machine and a medium, its folders, and clients of it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use jumpstarter_client::{ConnectOptions, blocking};
use jumpstarter_console::SerialExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::processes::{self, Process};
use jumpstarter_driver_testkit::{FuseMount, blocking_eventually, pico};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tempfile::TempDir;

use crate::memory_disk::MemoryDisk;

/// Until a call that meets no fault has to be answered, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Until the processes of a dead owner have to be gone.
const BURIAL: Duration = Duration::from_secs(10);

/// All that a round uses. Dropping it kills what is left and removes everything.
#[derive(Debug)]
pub(crate) struct Station {
    exporter: Option<Child>,
    pub(crate) hanging: Option<FuseMount>,
    pub(crate) disk: Option<MemoryDisk>,
    folder: TempDir,
}

impl Station {
    /// Makes the folders: on a small disk, and the medium on a file system that can hang, where
    /// that is asked for.
    pub(crate) fn new(on_small_disk: bool, can_hang: bool) -> Result<Self> {
        // A short name: a Unix socket's path has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("jf").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("disk"))?;
        let disk = on_small_disk.then(|| MemoryDisk::mount(&at("disk"))).transpose()?;
        for name in ["disk/t", "disk/medium", "disk/dumps", "shown", "client"] {
            fs::create_dir(at(name))?;
        }
        let mount = || FuseMount::new(&at("disk/medium"), &at("shown"), &[]);
        let hanging = can_hang.then(mount).transpose().map_err(Error::unavailable)?;
        let medium = if can_hang { at("shown") } else { at("disk/medium") }.join("medium.img");
        let config = format!(
            "apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: faults}}
export:
  qemu: {{type: qemu, config: {{mem: 32M, smp: 1, accel: tcg, timeouts: {{shutdown: 5s}}}}}}
  medium: {{type: file-flasher, config: {{path: {}}}}}
  relay: {{type: mock-power}}
",
            medium.display()
        );
        fs::write(at("exporter.yaml"), config)?;
        Ok(Self { exporter: None, hanging, disk, folder })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The medium's file, by a way that never hangs.
    pub(crate) fn medium(&self) -> PathBuf {
        self.at("disk/medium/medium.img")
    }

    /// Where a dump goes.
    pub(crate) fn dump(&self) -> PathBuf {
        self.at("disk/dumps/dump.img")
    }

    /// A file of the client's.
    pub(crate) fn image(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.at("client").join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Starts the exporter, and waits until it accepts connections.
    #[expect(
        clippy::disallowed_methods,
        reason = "a supervised child would be killed by us, not by itself"
    )]
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.at("log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["jmp", "run", "--exporter-config"]).arg(self.at("exporter.yaml"));
        command.arg("--listen-unix").arg(self.socket());
        command
            .env("TMPDIR", self.at("disk/t"))
            .env_remove("XDG_RUNTIME_DIR")
            .env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("starting the exporter")?;
        let socket = self.socket();
        let mut ended = false;
        let up = blocking_eventually(PATIENCE, || {
            ended = child.try_wait().is_ok_and(|status| status.is_some());
            ended || UnixStream::connect(&socket).is_ok()
        });
        self.exporter = Some(child);
        match up && !ended {
            true => Ok(()),
            false => {
                Err(Error::unavailable(format!("the exporter does not start: {}", self.log_end())))
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.at("s")
    }

    /// The end of the exporter's log.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n    ")
    }

    /// Whether the exporter runs.
    pub(crate) fn is_up(&mut self) -> bool {
        self.exporter
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Whether the exporter has exited; the kernel may still hold threads of it that wait for a
    /// file system.
    pub(crate) fn has_exited(&self) -> bool {
        self.exporter.as_ref().is_none_or(|child| {
            // A thread that waits for a file system's answer stays in the kernel until that comes.
            processes::find(child.id()).is_none_or(|process| process.is_zombie)
        })
    }

    /// Signals the exporter.
    pub(crate) fn signal_exporter(&self, signal: Signal) {
        if let Some(child) = &self.exporter {
            kill_process(Pid::from_child(child), signal).ok();
        }
    }

    /// The processes below the exporter that the kernel calls so.
    pub(crate) fn below_exporter(&self, name: &str) -> Vec<Process> {
        let Some(child) = &self.exporter else { return Vec::new() };
        let below = living(child.id()).into_iter();
        below.filter(|process| process.name.starts_with(name)).collect()
    }

    /// Waits for the exporter's end; `None` if it does not end, and is killed instead.
    pub(crate) fn await_end(&mut self) -> Option<ExitStatus> {
        let mut child = self.exporter.take()?;
        let status = end_of(&mut child, PATIENCE);
        if status.is_none() {
            child.kill().ok();
            child.wait().ok();
        }
        status
    }

    /// Waits until nothing runs any more but this process and its file system; what still runs.
    pub(crate) fn orphans(&self) -> Vec<Process> {
        let own = self.hanging.as_ref().map(FuseMount::id);
        let mut left = Vec::new();
        blocking_eventually(BURIAL, || {
            left = living(std::process::id());
            left.retain(|process| Some(process.id) != own);
            left.is_empty()
        });
        left
    }

    /// What stays of temporary files once no exporter runs: its folders, and files beside the
    /// medium.
    pub(crate) fn left_files(&self) -> Vec<String> {
        let names = |folder: &str| {
            let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let folders = names("disk/t").into_iter().filter(|name| name.starts_with("jmp-"));
        let beside = names("disk/medium").into_iter().filter(|name| name != "medium.img");
        folders.chain(beside).collect()
    }

    /// Removes the exporter's temporary folders, as a zealous cleaner does.
    pub(crate) fn remove_folders(&self) {
        for entry in fs::read_dir(self.at("disk/t")).into_iter().flatten().flatten() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }

    /// Starts `j` with these words.
    #[expect(
        clippy::disallowed_methods,
        reason = "a supervised child would be killed by us, not by itself"
    )]
    pub(crate) fn j<'a>(&self, words: impl IntoIterator<Item = &'a Path>) -> Result<Client> {
        let report = self.at("client").join(format!("report-{}", fastrand::u64(..)));
        let output = File::create(&report)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["jmp", "j"]).args(words);
        command.env("JUMPSTARTER_HOST", self.socket()).env("TMPDIR", self.at("client"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("starting a client")?;
        Ok(Client { child, report })
    }

    /// Runs `j` with these words to its end, which has to be a success in time.
    pub(crate) fn must(&self, words: &[&str]) -> Result<()> {
        let mut client = self.j(words.iter().map(Path::new))?;
        let doing = || format!("`j {}`", words.join(" "));
        match client.await_end(PATIENCE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                Err(Error::internal(format!("{}: {status}: {}", doing(), client.said())))
            }
            None => Err(Error::deadline_exceeded(format!("{} does not end", doing()))),
        }
    }

    /// Waits for the guest's login on the console.
    pub(crate) fn await_login(&self) -> Result<()> {
        let options = ConnectOptions::to(&self.socket().display().to_string())?;
        let exporter = blocking::connect(&options)?;
        let device = exporter.device();
        device.block_on(async {
            let serial = device.device().get::<dyn Serial>("qemu.console")?;
            let mut console = serial.expect().await?;
            console.wait_for(pico::LOGIN_PROMPT, PATIENCE).await.map(drop)
        })
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if let Some(child) = &mut self.exporter {
            child.kill().ok();
            child.wait().ok();
        }
        for process in self.orphans() {
            signal(&process, Signal::KILL);
        }
        self.hanging = None;
        self.disk = None;
        // Children of this process that lost their owner; no `Child` of this round is held.
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
    }
}

/// The living descendants of a process.
fn living(root: u32) -> Vec<Process> {
    let mut found = processes::descendants(root);
    found.retain(|process| !process.is_zombie);
    found
}

/// Signals a process, which may have ended.
pub(crate) fn signal(process: &Process, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

/// A client's process.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    report: PathBuf,
}

impl Client {
    /// Signals it.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).ok();
    }

    /// Waits for its end; `None` if it does not end in time, and is killed instead.
    pub(crate) fn await_end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = end_of(&mut self.child, limit);
        if status.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        status
    }

    /// What it printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.report).unwrap_or_default().trim().replace('\n', " / ")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    blocking_eventually(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    status
}
