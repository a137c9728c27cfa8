//! The command of a shell: its environment, and its life.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_driver_core::{Result, ResultExt, Secret};
use jumpstarter_supervise::{Command, Heeded, Input, Signal, Sink, StopPlan};

use super::prompt;
use crate::environment::Environment;
use crate::fault::exit_code;
use crate::terminal::{self, Settings};

/// How long a command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(5);
/// The variables that clients connect with, and those that describe a shell's device. They are not
/// inherited: they belong to another device.
const VARIABLES: [&str; 11] = [
    "JUMPSTARTER_HOST",
    "JMP_EXPORTER",
    "JMP_EXPORTER_LABELS",
    "JMP_LEASE",
    "JMP_GRPC_INSECURE",
    "JUMPSTARTER_GRPC_INSECURE",
    "JMP_GRPC_PASSPHRASE",
    "JMP_GRPC_CA",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "JMP_GRPC_CERT",
    "JMP_GRPC_KEY",
];

/// The environment of the command.
#[derive(Debug)]
pub(super) struct Surroundings {
    host: OsString,
    /// The device's name if its exporter has none.
    place: String,
    pub(super) exporter: Option<String>,
    /// The lease, and the labels of its exporter.
    pub(super) lease: Option<String>,
    pub(super) labels: Option<String>,
    motd: Option<String>,
    pub(super) insecure: bool,
    pub(super) passphrase: Option<Secret>,
    pub(super) authorities: Option<PathBuf>,
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

impl Surroundings {
    /// The environment for a device at `host`. The prompt says `place` if the exporter has no name.
    pub(super) fn new(
        host: impl Into<OsString>,
        place: impl Into<String>,
        motd: Option<String>,
    ) -> Self {
        Self {
            host: host.into(),
            place: place.into(),
            exporter: None,
            lease: None,
            labels: None,
            motd,
            insecure: false,
            passphrase: None,
            authorities: None,
            certificate: None,
        }
    }

    /// Runs the command, or the user's shell without one, and returns its exit code; 128 plus the
    /// signal's number if a signal ended it. Cancelling kills it.
    ///
    /// The command handles Ctrl-C itself. SIGTERM and a closed terminal end it. The terminal is
    /// restored afterwards.
    ///
    /// # Errors
    /// Fails with `NotFound` for an unknown command.
    pub(super) async fn run(self, words: &[OsString], environment: &Environment) -> Result<u8> {
        self.run_until(words, environment, std::future::pending()).await
    }

    /// As [`run`](Self::run), until `end`, which hangs the command up.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(super) async fn run_until(
        self,
        words: &[OsString],
        environment: &Environment,
        end: impl Future<Output = ()>,
    ) -> Result<u8> {
        // Before anything is awaited: from here on the signals are the command's.
        let signals = Signals::new()?;
        if let (Some(motd), []) = (&self.motd, words) {
            environment.report_beside(motd.trim_end());
        }
        let before = Settings::save();
        let command = self.command(words).await;
        let code = attend(command, signals, words.is_empty(), end).await;
        drop(before);
        code
    }

    async fn command(&self, words: &[OsString]) -> Command {
        let shell =
            prompt::shell(std::env::var_os("SHELL"), self.exporter.as_ref().unwrap_or(&self.place));
        let command = match words {
            [program, arguments @ ..] => Command::new(program).args(arguments),
            [] => Command::new(&shell.program).args(&shell.arguments),
        };
        let mut command = VARIABLES
            .iter()
            .fold(command, |command, variable| command.env_remove(variable))
            .env("JUMPSTARTER_HOST", &self.host)
            .env("JMP_DRIVERS_ALLOW", "UNSAFE")
            // Clients in Python warn about drivers without a client class; this program shows such
            // drivers.
            .env("_JMP_SUPPRESS_DRIVER_WARNINGS", "1")
            .env("PS1", &shell.prompt)
            .in_our_group()
            .stdin(Input::Inherit)
            .stdout(Sink::Inherit)
            .stderr(Sink::Inherit);
        if let Some(exporter) = self.exporter.as_ref().filter(|name| !name.contains('\0')) {
            command = command.env("JMP_EXPORTER", exporter);
        }
        for (name, value) in [("JMP_LEASE", &self.lease), ("JMP_EXPORTER_LABELS", &self.labels)] {
            if let Some(value) = value.as_ref().filter(|value| !value.contains('\0')) {
                command = command.env(name, value);
            }
        }
        if self.insecure {
            command = command.env("JMP_GRPC_INSECURE", "1");
        }
        if let Some(passphrase) = &self.passphrase {
            command = command.env("JMP_GRPC_PASSPHRASE", passphrase.expose());
        }
        if let Some(file) = &self.authorities {
            // Clients in Python read the second variable.
            command =
                command.env("JMP_GRPC_CA", file).env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", file);
        }
        if let Some((certificate, key)) = &self.certificate {
            command = command.env("JMP_GRPC_CERT", certificate).env("JMP_GRPC_KEY", key);
        }
        match jumpstarter_daemon::search_path().await {
            Some(path) => command.env("PATH", path),
            None => command,
        }
    }
}

async fn attend(
    command: Command,
    mut signals: Signals,
    interactive: bool,
    end: impl Future<Output = ()>,
) -> Result<u8> {
    let child = command.spawn().await.context("running the command")?;
    let status = tokio::select! {
        status = child.wait() => status,
        signal = signals.next() => {
            // An interactive shell ignores SIGTERM.
            let first = if interactive { Signal::HUP } else { signal };
            let plan = StopPlan::new().signal(first, GRACE).signal(Signal::HUP, GRACE);
            child.stop(plan).await.context("running the command")?;
            child.wait().await
        }
        () = end => {
            let plan = StopPlan::new().signal(Signal::HUP, GRACE);
            child.stop(plan).await.context("ending the command")?;
            child.wait().await
        }
    };
    Ok(exit_code(status))
}

/// The signals that end the work around a command; while the command runs they are the command's.
pub(super) struct Ending([(&'static str, Heeded); 3]);

impl Ending {
    pub(super) fn new() -> io::Result<Self> {
        let heed = |name, signal| Ok::<_, io::Error>((name, Heeded::new(signal)?));
        Ok(Self([
            heed("SIGINT", Signal::INT)?,
            heed("SIGTERM", Signal::TERM)?,
            heed("SIGHUP", Signal::HUP)?,
        ]))
    }

    /// Returns the name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            () = interrupt.1.recv() => interrupt.0,
            () = terminate.1.recv() => terminate.0,
            () = hang_up.1.recv() => hang_up.0,
        }
    }
}

/// The signals that reach this process while a command runs.
struct Signals {
    terminate: Heeded,
    /// SIGHUP, unless it is ignored, as `nohup` wants.
    hang_up: Option<Heeded>,
    /// The terminal sends these to the command, too, and the command decides.
    _keys: [Heeded; 2],
}

impl Signals {
    fn new() -> io::Result<Self> {
        let hang_up = terminal::is_interactive().then(|| Heeded::new(Signal::HUP)).transpose()?;
        let keys = [Heeded::new(Signal::INT)?, Heeded::new(Signal::QUIT)?];
        Ok(Self { terminate: Heeded::new(Signal::TERM)?, hang_up, _keys: keys })
    }

    /// Returns the next signal that ends the command.
    async fn next(&mut self) -> Signal {
        let hung_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.terminate.recv() => Signal::TERM,
            () = hung_up => Signal::HUP,
        }
    }
}
