//! The life of an exporter without a controller is one lease: the beforeLease hook, sessions of
//! clients, the afterLease hook.

use std::path::Path;
use std::time::Duration;

use jumpstarter_config::{Hook, Hooks, OnFailure};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::{Session, State};
use jumpstarter_protocol::v1::ExporterStatus;
use tokio_util::sync::CancellationToken;

use crate::hooks::{self, Names, When};
use crate::private_socket::PrivateSocket;

/// The prefix by which clients of the Python packages recognise a warning in a state.
pub(crate) const WARNING: &str = "[HOOK_WARNING] ";
/// How long the end of a session, or of the lease, stays visible: clients poll a few times in it.
const BETWEEN: Duration = Duration::from_secs(2);

/// Whether there is a hook, which must reach the exporter.
pub(crate) fn has_hooks(hooks: &Hooks) -> bool {
    hooks.before_lease.is_some() || hooks.after_lease.is_some()
}

/// The lease of a device.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    session: &'a Session,
    hooks: &'a Hooks,
    /// The socket for the hooks; `None` without hooks.
    socket: Option<&'a PrivateSocket>,
    names: Names,
    /// A controller has ended the lease.
    over: CancellationToken,
    /// The beforeLease hook has run, the afterLease hook has not.
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
        // Without a beforeLease hook the lease begins at once.
        let (names, over) = (Names::default(), CancellationToken::new());
        Self { session, hooks, socket, names, over, begun: hooks.before_lease.is_none() }
    }

    /// Makes it the lease of a controller with these names, which is over when `over` is cancelled.
    #[must_use]
    pub(crate) fn of_controller(mut self, names: Names, over: CancellationToken) -> Self {
        (self.names, self.over) = (names, over);
        self
    }

    /// Gives the lease another client.
    pub(crate) fn set_client(&mut self, client: &str) {
        client.clone_into(&mut self.names.client);
    }

    /// Begins the lease and serves one session of clients after the other until `closing`. Then it
    /// runs the afterLease hook, if the lease has begun. Dropping the future ends a running hook.
    ///
    /// As in the exporter in Python, the end of a session runs no hook. A lease whose beforeLease
    /// hook failed is tried again then.
    ///
    /// # Errors
    /// The error of a hook whose failure ends the exporter; clients have had the time to see it.
    pub(crate) async fn serve(&mut self, closing: &CancellationToken) -> Result<()> {
        loop {
            let begun = tokio::select! {
                biased;
                // A running beforeLease hook is ended: the lease has not begun.
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
            let (renewed, ()) = tokio::join!(self.session.device().renew(), linger(closing));
            if let Err(error) = renewed {
                tracing::warn!("for the next session: {}", error.report());
            }
            self.session.forget_end();
        }
    }

    /// Runs the beforeLease hook, unless it has run. Drivers may be called after it.
    ///
    /// # Errors
    /// The error of a hook whose failure ends the exporter. Any other failure that ends the lease
    /// is shown in the state.
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
        self.begun = true;
        if self.over.is_cancelled() {
            return Ok(());
        }
        let state = self.session.state().get();
        if (state.status, &state.message) != (ExporterStatus::LeaseReady, &message) {
            self.session.state().set(ExporterStatus::LeaseReady, message);
        }
        Ok(())
    }

    /// Runs the afterLease hook, if a lease has begun. The state shows its result.
    ///
    /// # Errors
    /// The error of a hook whose failure ends the exporter.
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

    /// Runs a hook. Returns its failure with the configured consequence, unless that is the
    /// exporter's end.
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
        let outcome = hooks::run(hook, when, host, &self.names).await;
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

/// Waits so that polling clients see how a lease ended.
async fn linger(closing: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(BETWEEN) => {}
        () = closing.cancelled() => {}
    }
}
