//! The scripts before and after a lease.

use std::io;
use std::path::{Path, PathBuf};

use jumpstarter_config::{Hook, OnFailure};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::LogSource;
use jumpstarter_files::take_file;
use jumpstarter_supervise::{Command, Sink, StopPlan};
use jumpstarter_text::truncated;

use crate::programs::search_path;

/// The names of a lease, for its hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) lease: String,
    pub(crate) client: String,
}

impl Default for Names {
    /// Those of an exporter without a controller.
    fn default() -> Self {
        Self { lease: "standalone".to_owned(), client: String::new() }
    }
}

/// The variable with the path of a file, whose text is added to the message for people who enter a
/// shell.
const MOTD_FILE: &str = "JMP_MOTD_FILE";
/// The most of that file that is read.
const MAX_MOTD_BYTES: u64 = 64 * 1024;
/// The log targets that mark a record as a hook's output.
const BEFORE: &str = LogSource::BEFORE_LEASE_HOOK;
const AFTER: &str = LogSource::AFTER_LEASE_HOOK;

/// One of the two hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

impl When {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "beforeLease",
            Self::After => "afterLease",
        }
    }

    /// Logs a failure as the hook's own record, which clients show even if they hide the exporter's
    /// log.
    pub(crate) fn warn(self, error: &Error, on_failure: OnFailure) {
        let error = error.report();
        match self {
            Self::Before => tracing::warn!(target: BEFORE, error, ?on_failure, "a hook failed"),
            Self::After => tracing::warn!(target: AFTER, error, ?on_failure, "a hook failed"),
        }
    }
}

/// Runs a hook to its end; each line of its output is a log record. Cancelling kills it with all of
/// its processes.
///
/// # Errors
/// `FailedPrecondition` if it fails, `DeadlineExceeded` after its timeout, `NotFound` without its
/// interpreter.
pub(crate) async fn run(hook: &Hook, when: When, host: &Path, names: &Names) -> Result<()> {
    let name = when.name();
    if hook.script.trim().is_empty() {
        return Ok(());
    }
    let lines = move || {
        Sink::lines(move |line| match when {
            When::Before => tracing::info!(target: BEFORE, "{line}"),
            When::After => tracing::info!(target: AFTER, "{line}"),
        })
    };
    let (interpreter, arguments) = invocation(hook);
    let mut command = Command::new(&interpreter)
        .args(arguments)
        .env("JUMPSTARTER_HOST", host)
        .env("JMP_DRIVERS_ALLOW", "UNSAFE")
        .env("_JMP_SUPPRESS_DRIVER_WARNINGS", "1")
        .env("LEASE_NAME", &names.lease)
        .env("CLIENT_NAME", &names.client)
        // These are for clients of other devices, and for systemd's service only.
        .env_remove("JMP_GRPC_INSECURE")
        .env_remove("JUMPSTARTER_GRPC_INSECURE")
        .env_remove("JMP_GRPC_CA")
        .env_remove("JMP_GRPC_CERT")
        .env_remove("JMP_GRPC_KEY")
        .env_remove("JMP_EXPORTER_CONFIG")
        .env_remove("NOTIFY_SOCKET")
        // Nobody can answer questions, and lines must arrive as they are printed.
        .env("TERM", "dumb")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("PYTHONUNBUFFERED", "1")
        .env_remove("PS1")
        .stdout(lines())
        .stderr(lines());
    command = match when {
        When::Before => command.env(MOTD_FILE, motd_file(host)),
        When::After => command.env_remove(MOTD_FILE),
    };
    if let Some(path) = search_path().await {
        command = command.env("PATH", path);
    }
    let failed = |error| Error::internal(format!("running the {name} hook")).with_source(error);
    let child = command.spawn().await.map_err(failed)?;
    let timeout = hook.timeout.as_duration();
    let Ok(status) = tokio::time::timeout(timeout, child.wait()).await else {
        child.stop(StopPlan::default()).await.map_err(failed)?;
        let message = format!("the {name} hook did not end within {} s", timeout.as_secs_f64());
        return Err(Error::deadline_exceeded(message)
            .with_hint("raise its `timeout`, or make the script faster"));
    };
    match status.success() {
        true => Ok(()),
        false => Err(Error::failed_precondition(format!("the {name} hook failed: {status}"))),
    }
}

/// The file beside the hooks' socket in which the beforeLease hook may write a message for people
/// who enter a shell.
fn motd_file(host: &Path) -> PathBuf {
    host.with_file_name("motd")
}

/// Takes the message that the beforeLease hook wrote there.
pub(crate) async fn added_motd(host: &Path) -> String {
    let file = motd_file(host);
    let taken = tokio::task::spawn_blocking(move || take_file(&file, MAX_MOTD_BYTES + 1));
    match taken.await.map_err(io::Error::other).flatten() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default());
            truncated(&text, MAX_MOTD_BYTES as usize).trim_end().to_owned()
        }
        Err(error) => {
            tracing::warn!(target: BEFORE, %error, "what the hook wrote to {MOTD_FILE} cannot be read");
            String::new()
        }
    }
}

/// The interpreter and its arguments: a single line that names a file is that file, anything else
/// the script itself.
fn invocation(hook: &Hook) -> (String, Vec<&str>) {
    let script = hook.script.trim();
    let is_file = !script.contains('\n') && Path::new(script).is_file();
    let python =
        Path::new(script).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("py"));
    let default = if is_file && python { "python3" } else { "/bin/sh" };
    let interpreter = hook.exec.clone().unwrap_or_else(|| default.to_owned());
    (interpreter, if is_file { vec![script] } else { vec!["-c", &hook.script] })
}
