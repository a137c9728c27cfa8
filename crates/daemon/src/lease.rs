//! The life of an exporter without a controller, which is one lease: the hook before, sessions of
//! clients, the hook after.

use std::path::Path;
use std::time::Duration;

use jumpstarter_config::{Hook, Hooks, OnFailure};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::{Session, State};
use jumpstarter_protocol::v1::ExporterStatus;
use tokio_util::sync::CancellationToken;

use crate::hooks::{self, When};
use crate::private_socket::PrivateSocket;

/// What clients of the Python packages know a warning in a state by.
const WARNING: &str = "[HOOK_WARNING] ";
/// How long the end of a session, or of the lease, is shown before what follows: clients ask a few
/// times in it.
const BETWEEN: Duration = Duration::from_secs(2);

/// Whether there is a hook, which has to reach the exporter.
pub(crate) fn has_hooks(hooks: &Hooks) -> bool {
    hooks.before_lease.is_some() || hooks.after_lease.is_some()
}

/// The lease of a device.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    session: &'a Session,
    hooks: &'a Hooks,
    /// Where the hooks reach this exporter; none without hooks.
    socket: Option<&'a PrivateSocket>,
    /// The hook before has run, the one after has not.
    begun: bool,
}

impl<'a> Lease<'a> {
    pub(crate) fn new(
        session: &'a Session,
        hooks: &'a Hooks,
        socket: Option<&'a PrivateSocket>,
    ) -> Self {
        session.logs().begin_lease();
        if hooks.before_lease.is_some() {
            session.state().set(ExporterStatus::BeforeLeaseHook, "Running the beforeLease hook");
        }
        // Without a hook before, there is nothing to wait for.
        Self { session, hooks, socket, begun: hooks.before_lease.is_none() }
    }

    /// Begins the lease and serves one session of clients after the other until `closing`: then it
    /// runs the hook after, if the lease has begun. Dropping the future ends a hook that runs.
    ///
    /// As in the exporter in Python, the end of a session runs no hook. A lease that a failed hook
    /// kept from beginning is tried again then.
    ///
    /// # Errors
    /// That of a hook whose failure ends the exporter; clients have had the time to see it.
    pub(crate) async fn serve(&mut self, closing: &CancellationToken) -> Result<()> {
        loop {
            let begun = tokio::select! {
                biased;
                // A hook before that runs is ended: it has begun nothing.
                () = closing.cancelled() => return self.finish().await,
                begun = self.begin() => begun,
            };
            if let Err(error) = begun {
                linger(closing).await;
                return Err(error);
            }
            tokio::select! {
                () = self.session.ended() => {}
                () = closing.cancelled() => return self.finish().await,
            }
            linger(closing).await;
            self.session.forget_end();
        }
    }

    /// The hook before, unless it has run; after it drivers may be called.
    ///
    /// # Errors
    /// That of a hook whose failure ends the exporter. With any other failure that forbids to go
    /// on, the state says so.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        let outcome = match &self.hooks.before_lease {
            Some(hook) if !self.begun => self.run(hook, When::Before).await?,
            _ => None,
        };
        let message = match outcome {
            None => State::READY.to_owned(),
            Some((OnFailure::Warn, error)) => {
                format!("{WARNING}beforeLease hook warning: {error:#}")
            }
            Some(_) => return Ok(()),
        };
        let state = self.session.state().get();
        if (state.status, &state.message) != (ExporterStatus::LeaseReady, &message) {
            self.session.state().set(ExporterStatus::LeaseReady, message);
        }
        self.begun = true;
        Ok(())
    }

    /// The hook after, if a lease has begun. Whatever came of it can be seen in the state.
    ///
    /// # Errors
    /// That of a hook whose failure ends the exporter.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        let outcome = match &self.hooks.after_lease {
            Some(hook) if self.begun => {
                self.begun = false;
                self.run(hook, When::After).await?
            }
            _ => None,
        };
        self.begun = false;
        let message = match outcome {
            None => "Available for new lease".to_owned(),
            Some((OnFailure::Warn, error)) => {
                format!("{WARNING}afterLease hook warning: {error:#}")
            }
            Some(_) => return Ok(()),
        };
        self.session.state().set(ExporterStatus::Available, message);
        Ok(())
    }

    /// Runs a hook; a failure is answered with what it means, unless it means the exporter's end.
    async fn run(&self, hook: &Hook, when: When) -> Result<Option<(OnFailure, Error)>> {
        let state = self.session.state();
        let (running, failed) = match when {
            When::Before => {
                (ExporterStatus::BeforeLeaseHook, ExporterStatus::BeforeLeaseHookFailed)
            }
            When::After => (ExporterStatus::AfterLeaseHook, ExporterStatus::AfterLeaseHookFailed),
        };
        let name = when.name();
        if state.get().status != running {
            state.set(running, format!("Running the {name} hook"));
        }
        if let Some(socket) = self.socket
            && let Err(error) = socket.ensure().await
        {
            tracing::warn!(error = error.report(), "the {name} hook cannot reach the exporter");
        }
        let host = self.socket.map_or(Path::new(""), PrivateSocket::path);
        let outcome = hooks::run(hook, when, host).await;
        if when == When::Before {
            let motd = hooks::added_motd(host).await;
            self.session.add_to_motd(motd);
        }
        let Err(error) = outcome else { return Ok(None) };
        when.warn(&error, hook.on_failure);
        match hook.on_failure {
            OnFailure::Warn => {}
            OnFailure::EndLease => {
                state.set(failed, format!("{name} hook failed (on_failure=endLease): {error:#}"));
            }
            OnFailure::Exit => {
                state.set(
                    failed,
                    format!("{name} hook failed (on_failure=exit, shutting down): {error:#}"),
                );
                return Err(error);
            }
        }
        Ok(Some((hook.on_failure, error)))
    }
}

/// Lets clients see how a lease ended: they ask a few times in this while.
async fn linger(closing: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(BETWEEN) => {}
        () = closing.cancelled() => {}
    }
}
