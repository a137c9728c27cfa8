//! Runs other programs: with a deadline, stopped with all they started on Ctrl-C, with their words
//! in the error.
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jumpstarter_supervise::{Child, Command, ExitStatus, Signal, Sink, StopPlan};
use tokio::sync::watch;
use tokio::time::timeout;

/// How much of a quiet program's stdout and stderr is kept, in bytes.
const KEPT: usize = 16 * 1024 * 1024;
/// How long a program may take to end after SIGTERM, before SIGKILL. nextest gives its tests 10 s.
const GRACE: Duration = Duration::from_secs(15);

/// Turns true at the first SIGINT or SIGTERM, and stays so.
static INTERRUPT: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// The error of whatever was under way when the user pressed Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Makes SIGINT and SIGTERM stop the program that runs, and refuse the next ones.
///
/// The error then travels up as any other does, so that temporary files are removed by their
/// owners.
pub(crate) fn listen_for_interrupts() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        INTERRUPT.send_replace(true);
    });
    Ok(())
}

/// Fails once the user has pressed Ctrl-C. For loops of our own between two programs.
pub(crate) fn check_interrupt() -> Result<()> {
    if *INTERRUPT.borrow() { Err(Interrupted.into()) } else { Ok(()) }
}

/// Completes when the user presses Ctrl-C.
async fn interrupted() {
    let mut receiver = INTERRUPT.subscribe();
    // The sender is a static: it is never dropped, so this returns on `true` only.
    if receiver.wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The path of an executable that a shell would find.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| {
        candidate
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// A program to run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    program: OsString,
    args: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    is_cargo: bool,
    folder: Option<PathBuf>,
    deadline: Duration,
}

impl Run {
    /// A program without arguments, with our environment and folder, and ten minutes to end.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Run {
        Run {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            is_cargo: false,
            folder: None,
            deadline: Duration::from_secs(600),
        }
    }

    /// The cargo that runs us, in the workspace's root.
    pub(crate) fn cargo() -> Run {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let run =
            Run::new(cargo).folder(crate::workspace::root()).deadline(Duration::from_secs(45 * 60));
        Run { is_cargo: true, ..run }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Run {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more environment variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// More environment variables.
    pub(crate) fn envs(mut self, environment: &BTreeMap<OsString, OsString>) -> Run {
        self.environment.extend(environment.clone());
        self
    }

    /// The same, run by another program: `sudo -n ...`.
    pub(crate) fn behind(mut self, program: &str, args: &[&str]) -> Run {
        let own = std::mem::replace(&mut self.program, program.into());
        self.args.splice(0..0, args.iter().map(OsString::from).chain([own]));
        self
    }

    /// The folder to run in.
    pub(crate) fn folder(mut self, folder: impl AsRef<Path>) -> Run {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// How long the program may take.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Run {
        self.deadline = deadline;
        self
    }

    /// The command as one would type it.
    pub(crate) fn command_line(&self) -> String {
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program);
        std::iter::once(program)
            .chain(self.args.iter().map(OsString::as_os_str))
            .map(|word| {
                let word = word.to_string_lossy();
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+~,@%".contains(c);
                if !word.is_empty() && word.chars().all(plain) {
                    word.into_owned()
                } else {
                    format!("'{}'", word.replace('\'', r"'\''"))
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it with our stdout and stderr; fails when it fails.
    pub(crate) async fn show(self) -> Result<()> {
        let child = self.spawn_shown().await?;
        let status = self.wait(&child).await?;
        if status.success() {
            Ok(())
        } else {
            Err(anyhow!("`{}` failed: {status}", self.command_line()))
        }
    }

    /// Starts it with our stdout and stderr. It and all of its descendants die with the returned
    /// child.
    pub(crate) async fn spawn_shown(&self) -> Result<Child> {
        self.spawn(self.command().stdout(Sink::Inherit).stderr(Sink::Inherit)).await
    }

    /// Runs it quietly and returns what it wrote to stdout. What it wrote is in the error when it
    /// fails.
    pub(crate) async fn output(self) -> Result<String> {
        let command = self.command().stdout(Sink::Tail(KEPT)).stderr(Sink::Tail(KEPT));
        let child = self.spawn(command).await?;
        let status = self.wait(&child).await?;
        let (out, err) = (child.stdout_tail(), child.stderr_tail());
        if !status.success() {
            let said = [out.trim(), err.trim()].join("\n");
            bail!("`{}` failed: {status}\n{}", self.command_line(), said.trim());
        }
        Ok(out)
    }

    /// Waits for the program's end; on Ctrl-C and at the deadline ends it and all of its
    /// descendants.
    pub(crate) async fn wait(&self, child: &Child) -> Result<ExitStatus> {
        let outcome = tokio::select! {
            result = timeout(self.deadline, child.wait()) => match result {
                Ok(status) => return Ok(status),
                Err(_) => anyhow!("`{}` did not end within {:?}", self.command_line(), self.deadline),
            },
            () = interrupted() => Interrupted.into(),
        };
        let plan = StopPlan::new().signal_group(Signal::TERM, GRACE);
        child.stop(plan).await.with_context(|| format!("ending `{}`", self.command_line()))?;
        Err(outcome)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program).args(&self.args);
        if self.is_cargo {
            for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
                command = command.env_remove(name);
            }
        }
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        match &self.folder {
            Some(folder) => command.current_dir(folder),
            None => command,
        }
    }

    async fn spawn(&self, command: Command) -> Result<Child> {
        check_interrupt()?;
        command.spawn().await.with_context(|| format!("starting `{}`", self.command_line()))
    }
}

/// Whether cargo set this variable for xtask. Build scripts that look at such variables would run
/// again, and what depends on them be built again, each time that cargo is run by hand and by xtask
/// in turns.
fn is_of_this_package(variable: &OsStr) -> bool {
    let variable = variable.to_string_lossy();
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_returned_and_errors_carry_what_was_said() {
        assert_eq!(Run::new("printf").arg("a b").output().await.unwrap(), "a b");
        let error = Run::new("sh").args(["-c", "echo why >&2; exit 3"]).output().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why") && text.contains('3') && text.contains("echo why"), "{text}");
    }

    #[tokio::test]
    async fn the_deadline_ends_grandchildren_too() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $! > pid; wait";
        let run = Run::new("sh")
            .args(["-c", script])
            .folder(folder.path())
            .deadline(Duration::from_secs(2));
        let error = run.output().await.unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
        let pid: i32 =
            std::fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
        let gone = || !matches!(std::fs::read_to_string(format!("/proc/{pid}/stat")), Ok(s) if !s.contains(") Z "));
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !gone() {
            assert!(std::time::Instant::now() < end, "process {pid} survived");
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn the_package_that_runs_is_not_the_one_that_is_built() {
        assert!(
            ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"]
                .iter()
                .all(|name| is_of_this_package(name.as_ref()))
        );
        assert!(
            ["CARGO_HOME", "CARGO_TARGET_DIR"]
                .iter()
                .all(|name| !is_of_this_package(name.as_ref()))
        );
    }

    #[test]
    fn command_lines_can_be_pasted() {
        assert_eq!(
            Run::new("/bin/echo").args(["a b", "", "c=d"]).command_line(),
            "echo 'a b' '' c=d"
        );
    }
}
