//! A shell for a device of a lab: the lease, its tunnels, the command, the release.

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_client::lab::{Lease, Remaining};
use jumpstarter_client::{Exporter, ExporterState, LogRecord};
use jumpstarter_config::ClientConfig;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, blocking};
use jumpstarter_files::RuntimeDir;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::command::{Ending, Surroundings};
use super::remote::{LAST_RECORDS, line};
use crate::environment::Environment;
use crate::fault::{Fault, SUCCESS};
use crate::lab::{Ask, Choice, Leasing};
use crate::print;

/// The longest wait for the exporter's hooks.
const HOOKS_LIMIT: Duration = Duration::from_secs(300);
/// How often the exporter's state is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The earlier records of a log come without such a gap.
const QUIET: Duration = Duration::from_millis(20);
/// The notice before the end of a lease.
const NOTICE: Duration = Duration::from_secs(300);
/// The exit code of a shell whose lease has ended, as upstream's.
const EXPIRED: u8 = 255;
/// The prefix of a warning in the exporter's state.
const WARNING: &str = "[HOOK_WARNING] ";

/// The parts of a shell.
pub(super) struct Shell<'a> {
    show_logs: bool,
    words: &'a [OsString],
    environment: &'a Environment,
    command_runs: AtomicBool,
    hook_spoke: AtomicBool,
    /// Counts the opening of the log, and its records.
    log_seen: watch::Sender<u64>,
}

impl<'a> Shell<'a> {
    pub(super) fn new(
        show_logs: bool,
        words: &'a [OsString],
        environment: &'a Environment,
    ) -> Self {
        let (command_runs, hook_spoke, log_seen) = Default::default();
        Self { show_logs, words, environment, command_runs, hook_spoke, log_seen }
    }

    /// Leases a device, runs the command, and releases the device.
    pub(super) async fn run(
        self,
        ask: &Ask,
        config: &ClientConfig,
    ) -> std::result::Result<u8, Fault> {
        let choice = ask.choice(self.environment).unwrap_or(Choice::Active);
        let leasing = ask.leasing(choice, config, self.environment)?;
        let mut interrupts = Ending::new()?;
        let interrupted = async {
            loop {
                let name = interrupts.next().await;
                // While the command runs the signals are the command's.
                if !self.command_runs.load(Ordering::Relaxed) {
                    return name;
                }
            }
        };
        let outcome = tokio::select! {
            outcome = self.lease_and_run(&leasing) => outcome,
            name = interrupted => {
                Err(Error::cancelled(format!("{name}: the device is given back")).into())
            }
        };
        leasing.lab().released().await;
        leasing.token_settles().await;
        outcome
    }

    fn say(&self, text: impl std::fmt::Display) {
        self.environment.report_beside(text);
    }

    /// Leases a device, runs the command, and releases the lease.
    async fn lease_and_run(&self, leasing: &Leasing) -> std::result::Result<u8, Fault> {
        let connect = async |lease: Arc<Lease>| lease.connect().await;
        let (lease, exporter) = leasing.connected(connect).await?;
        let outcome = self.use_device(&lease, &exporter).await;
        exporter.device().close().await.ok();
        let released = lease.release().await;
        Ok(outcome.and_then(|code| released.map(|()| code))?)
    }

    /// Waits for the exporter, runs the command until its end or the lease's, and ends the session.
    async fn use_device(&self, lease: &Arc<Lease>, exporter: &Exporter) -> Result<u8> {
        let (over, is_over) = watch::channel(false);
        let mut watching = pin!(self.watch(lease, exporter, over));
        let mut showing = pin!(self.show_log(exporter));
        let mut working = pin!(self.work(lease, exporter, is_over));
        let outcome = loop {
            tokio::select! {
                outcome = &mut working => break outcome,
                () = &mut watching => {}
                () = &mut showing => {}
            }
        };
        // The last records of a hook.
        if self.show_logs || self.hook_spoke.load(Ordering::Relaxed) {
            tokio::time::timeout(LAST_RECORDS, showing).await.ok();
        }
        outcome
    }

    async fn work(
        &self,
        lease: &Arc<Lease>,
        exporter: &Exporter,
        mut is_over: watch::Receiver<bool>,
    ) -> Result<u8> {
        let is_over_now = is_over.clone();
        let ready = tokio::select! {
            ready = self.wait_ready(exporter) => ready,
            // No error, as in Python: the device was never there.
            _ = is_over.wait_for(|over| *over) => return Ok(self.never_began()),
        };
        if let Err(error) = ready {
            return match *is_over_now.borrow() {
                true => Ok(self.never_began()),
                false => Err(error),
            };
        }
        let (_folder, socket, listener) = socket().await?;
        let labels = self.labels(lease).await;
        let mut surroundings =
            Surroundings::new(socket, lease.exporter(), exporter.motd().map(str::to_owned));
        surroundings.exporter = Some(lease.exporter().to_owned());
        surroundings.lease = Some(lease.name().to_owned());
        surroundings.labels = Some(labels);
        let mut expired = is_over.clone();
        let expiry = async move {
            // It fails only if nobody watches the lease.
            drop(expired.wait_for(|over| *over).await);
        };
        let mut serving = pin!(lease.serve(listener));
        let mut command = pin!(surroundings.run_until(self.words, self.environment, expiry));
        self.command_runs.store(true, Ordering::Relaxed);
        let code = tokio::select! {
            code = &mut command => code,
            served = &mut serving => {
                if let Err(error) = served {
                    self.say(print::report(&error));
                }
                command.await
            }
        };
        self.command_runs.store(false, Ordering::Relaxed);
        if *is_over.borrow() {
            self.say("The lease has ended.");
            return Ok(EXPIRED);
        }
        let code = code?;
        self.end_session(lease, exporter, is_over).await.map(|()| code)
    }

    fn never_began(&self) -> u8 {
        self.say("The lease has ended before the command began: it did not run.");
        SUCCESS
    }

    /// Waits until the exporter takes calls.
    async fn wait_ready(&self, exporter: &Exporter) -> Result<()> {
        let mut is_told = false;
        let waiting = async {
            // The records of the log that were sent before a state come before it.
            self.log_opens(LAST_RECORDS).await;
            loop {
                let status = match exporter.status().await {
                    Ok(status) => status,
                    // An old exporter.
                    Err(error) if error.kind() == ErrorKind::Unimplemented => return Ok(()),
                    Err(error) => return Err(error),
                };
                match status.state {
                    ExporterState::Ready => {
                        self.log_settles().await;
                        self.warn(&status.message);
                        return Ok(());
                    }
                    ExporterState::BeforeLeaseHookFailed
                    | ExporterState::AfterLeaseHookFailed
                    | ExporterState::Offline => {
                        return Err(Error::failed_precondition(status.reason()));
                    }
                    _ => {}
                }
                if !std::mem::replace(&mut is_told, true) && !status.message.is_empty() {
                    tracing::debug!(message = status.message, "waiting for the exporter");
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(HOOKS_LIMIT, waiting).await;
        waited.unwrap_or_else(|_| {
            let limit = HOOKS_LIMIT.as_secs();
            Err(Error::deadline_exceeded(format!("the exporter was not ready within {limit} s")))
        })
    }

    /// Ends the session, and waits until the afterLease hook has run.
    async fn end_session(
        &self,
        lease: &Lease,
        exporter: &Exporter,
        mut is_over: watch::Receiver<bool>,
    ) -> Result<()> {
        let ended = tokio::select! {
            ended = lease.end_session(exporter) => ended,
            _ = is_over.wait_for(|over| *over) => return Ok(()),
        };
        match ended {
            Ok(message) => self.warn(&message),
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded => {
                self.say(format_args!("Warning: {}", print::line(&error.to_string())));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits until the log is followed. Returns false after `limit`: an exporter in Python answers
    /// only with its first record.
    async fn log_opens(&self, limit: Duration) -> bool {
        let mut seen = self.log_seen.subscribe();
        let opening = async {
            // It fails only without a sender.
            drop(seen.wait_for(|count| *count > 0).await);
        };
        tokio::time::timeout(limit, opening).await.is_ok()
    }

    /// Waits until the earlier records of the log are shown: what a hook printed comes before the
    /// command.
    async fn log_settles(&self) {
        if !self.log_opens(QUIET).await {
            return;
        }
        let mut seen = self.log_seen.subscribe();
        let settling = async { while tokio::time::timeout(QUIET, seen.changed()).await.is_ok() {} };
        tokio::time::timeout(LAST_RECORDS, settling).await.ok();
    }

    /// Shows a hook's warning.
    fn warn(&self, message: &str) {
        if let Some(warning) = message.strip_prefix(WARNING) {
            self.say(format_args!("Warning: {}", print::line(warning)));
        }
    }

    /// Watches the lease: a notice before its end, and its end.
    async fn watch(&self, lease: &Lease, exporter: &Exporter, over: watch::Sender<bool>) {
        let mut is_noticed = false;
        lease
            .ended(exporter, |left| {
                if let Remaining::Time(left) = left
                    && left <= NOTICE
                    && !std::mem::replace(&mut is_noticed, true)
                    && left > Duration::from_secs(60)
                {
                    let minutes = left.as_secs().div_ceil(60);
                    self.say(format_args!("The lease ends in {minutes} minutes."));
                }
            })
            .await;
        over.send_replace(true);
        std::future::pending().await
    }

    /// Shows the log: a hook's output always, the rest when asked for.
    async fn show_log(&self, exporter: &Exporter) {
        let opened = match self.show_logs {
            true => exporter.logs().await,
            // The record of each call would be another message through the router.
            false => exporter.hook_logs().await,
        };
        self.log_seen.send_modify(|count| *count += 1);
        if let Ok(mut records) = opened {
            // The log ends with the connection, whose loss is reported elsewhere.
            while let Some(Ok(record)) = records.next().await {
                if let Some(shown) = self.shown(&record) {
                    self.say(shown);
                }
                self.log_seen.send_modify(|count| *count += 1);
            }
        }
        std::future::pending().await
    }

    fn shown(&self, record: &LogRecord) -> Option<String> {
        let is_of_hook = matches!(record.source, Some("before-lease-hook" | "after-lease-hook"));
        match (is_of_hook, self.show_logs) {
            (true, _) => {
                self.hook_spoke.store(true, Ordering::Relaxed);
                Some(print::line(&record.message).into_owned())
            }
            (false, true) => Some(line(record)),
            (false, false) => None,
        }
    }

    /// The exporter's labels, as scripts read them.
    async fn labels(&self, lease: &Lease) -> String {
        match lease.exporter_labels().await {
            Ok(labels) => {
                let labels: Vec<_> =
                    labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                labels.join(",")
            }
            Err(error) => {
                tracing::warn!(error = error.report(), "the exporter's labels are not known");
                String::new()
            }
        }
    }
}

/// A socket in a private folder.
async fn socket() -> Result<(RuntimeDir, PathBuf, UnixListener)> {
    let made = blocking(|| {
        RuntimeDir::sweep("lease");
        let folder = RuntimeDir::create_for_sockets("lease")?;
        let path = folder.file("socket");
        Ok((folder, path))
    });
    let (folder, path) = made.await.context("making a private folder for a socket")?;
    let listener = UnixListener::bind(&path).context("listening at a private socket")?;
    Ok((folder, path, listener))
}
