//! The life of an exporter without a controller, as one lease after the other: the hook before, calls, the hook after.

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_core::config::{Hook, Hooks, OnFailure};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::v1::ExporterStatus;

use crate::Session;
use crate::hooks::{self, When};

/// What clients of the Python packages know a warning in a state by.
const WARNING: &str = "[HOOK_WARNING] ";
/// How long an ended lease is shown before the next begins: clients ask a few times in it.
const BETWEEN: Duration = Duration::from_secs(2);

/// Whether there is a hook, which has to reach the exporter.
pub(crate) fn has_hooks(hooks: &Hooks) -> bool {
    hooks.before_lease.is_some() || hooks.after_lease.is_some()
}

/// The leases of one session.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    session: &'a Session,
    hooks: &'a Hooks,
    /// Where the hooks reach this exporter; of no meaning without hooks.
    host: &'a Path,
    /// The hook before has run, the one after has not.
    begun: bool,
}

impl<'a> Lease<'a> {
    pub(crate) fn new(session: &'a Session, hooks: &'a Hooks, host: &'a Path) -> Self {
        if hooks.before_lease.is_some() {
            session.state().set(ExporterStatus::BeforeLeaseHook, "Running the beforeLease hook");
        }
        Self { session, hooks, host, begun: false }
    }

    /// Begins a lease and, whenever a client ends its session, the next one. Cancelling ends a hook that runs.
    ///
    /// # Errors
    /// That of a hook whose failure ends the exporter.
    pub(crate) async fn serve(&mut self) -> Result<()> {
        loop {
            self.begin().await?;
            self.session.ended().await;
            if self.hooks.after_lease.is_some() {
                self.finish().await?;
                self.session.state().set(ExporterStatus::Available, "");
                tokio::time::sleep(BETWEEN).await;
            }
        }
    }

    /// The hook before, after which drivers may be called.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        let Some(hook) = &self.hooks.before_lease else {
            self.begun = true;
            if self.session.state().get().status != ExporterStatus::LeaseReady {
                self.session.state().set(ExporterStatus::LeaseReady, "");
            }
            return Ok(());
        };
        let outcome = self.run(hook, When::Before).await?;
        match outcome {
            None => self.session.state().set(ExporterStatus::LeaseReady, ""),
            Some((OnFailure::Warn, error)) => {
                let message = format!("{WARNING}{error:#}");
                self.session.state().set(ExporterStatus::LeaseReady, message);
            }
            Some(_) => return Ok(()),
        }
        self.begun = true;
        Ok(())
    }

    /// The hook after, if a lease has begun.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        match &self.hooks.after_lease {
            Some(hook) => self.run(hook, When::After).await.map(drop),
            None => Ok(()),
        }
    }

    /// Runs a hook; a failure is answered with what it means, unless it means the exporter's end.
    async fn run(&self, hook: &Hook, when: When) -> Result<Option<(OnFailure, Error)>> {
        let state = self.session.state();
        let (running, failed) = match when {
            When::Before => (ExporterStatus::BeforeLeaseHook, ExporterStatus::BeforeLeaseHookFailed),
            When::After => (ExporterStatus::AfterLeaseHook, ExporterStatus::AfterLeaseHookFailed),
        };
        if state.get().status != running {
            state.set(running, format!("Running the {} hook", when.name()));
        }
        let Err(error) = hooks::run(hook, when, self.host).await else { return Ok(None) };
        tracing::warn!(error = %error.report(), on_failure = ?hook.on_failure, "a hook failed");
        match hook.on_failure {
            OnFailure::Warn => {}
            OnFailure::EndLease => state.set(failed, format!("{error:#}")),
            OnFailure::Exit => {
                state.set(failed, format!("{error:#}"));
                return Err(error);
            }
        }
        Ok(Some((hook.on_failure, error)))
    }
}
