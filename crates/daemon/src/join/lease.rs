//! One lease of a controller: the device is opened for it, and closed at its end.

use std::time::Duration;

use jumpstarter_config::ExporterConfig;
use jumpstarter_controller::Controller;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::{LogHub, Server, Session};
use jumpstarter_protocol::v1::ExporterStatus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::counted::Counted;
use super::following::{Assignment, Leased};
use super::listening::listen;
use super::reporter::Reporter;
use crate::hooks::Names;
use crate::lease::{Lease, has_hooks};
use crate::run::{close, for_hooks};
use crate::signals::Signals;

/// How long clients may take to see the end of a lease, or its failure.
const VISIBLE: Duration = Duration::from_secs(2);
/// How long running calls may take to end after the lease.
const CALLS_GRACE: Duration = Duration::from_secs(1);
/// The longest wait of a lease's first state for the stream of tunnels.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

/// How a lease ended.
#[derive(Debug)]
pub(super) enum End {
    /// The controller said so, or the exporter released it.
    Over,
    /// A signal ends the exporter.
    Signal,
    /// A hook whose failure ends the exporter has failed.
    Exit(Error),
}

/// What a lease needs of the exporter.
pub(super) struct Context<'a> {
    pub(super) config: &'a ExporterConfig,
    pub(super) controller: &'a Controller,
    pub(super) counted: &'a Counted,
    pub(super) logs: &'a LogHub,
    pub(super) reporter: &'a Reporter,
    pub(super) assignment: watch::Receiver<Assignment>,
    pub(super) signals: &'a mut Signals,
    /// Whether the exporter ends after it.
    pub(super) is_last: bool,
}

/// Serves a lease in an open session until it is over, and closes the device.
///
/// # Errors
/// The errors of listening for the hooks, and of closing.
pub(super) async fn serve(context: Context<'_>, session: &Session, leased: &Leased) -> Result<End> {
    let Context { config, controller, counted, logs, reporter, assignment, signals, is_last } =
        context;
    let hooks = &config.settings.hooks;
    let (private, for_hooks) = for_hooks(hooks).await?.unzip();
    let over = CancellationToken::new();
    let names = Names { lease: leased.lease.clone(), client: leased.client.clone() };
    let lease = Lease::new(session, hooks, private.as_ref()).of_controller(names, over.clone());
    let mut server = Server::new(session);
    if let Some(listener) = for_hooks {
        server.start_for_hooks(listener);
    }
    let (listens, mut listening) = watch::channel(false);
    let closing = CancellationToken::new();
    let task = listen(
        controller.clone(),
        counted.clone(),
        leased.lease.clone(),
        server.tunnels(),
        listens,
        closing.clone(),
    );
    let tunnels = AbortOnDropHandle::new(tokio::spawn(task));
    // Before, the controller would pass on no tunnel. A controller that is away ends no lease.
    drop(tokio::time::timeout(LISTEN_LIMIT, listening.wait_for(|listens| *listens)).await);
    let mirror = reporter.mirror(session, is_last);
    let (clients, client) = watch::channel(leased.client.clone());
    let name_client = {
        let (counted, logs) = (counted.clone(), logs.clone());
        move |now: &Leased| {
            now.name_in(&logs, &counted);
            clients.send_replace(now.client.clone());
        }
    };
    let watching = watch(assignment, leased.clone(), name_client, over.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let mut life =
        Life { lease, session, reporter, client, over, leased, has_hooks: has_hooks(hooks) };
    let end = tokio::select! {
        end = life.run() => end,
        name = signals.next() => {
            tracing::info!(signal = name, "shutting down");
            tokio::select! {
                failed = life.finish() => failed.map_or_else(End::Exit, |()| End::Signal),
                () = signals.hurry("the afterLease hook is ended") => End::Signal,
            }
        }
    };
    drop(mirror);
    // Clients see the end of a tunnel only if it is ended properly: a router reports it to nobody.
    closing.cancel();
    let grace = async {
        tokio::select! {
            () = tokio::time::sleep(CALLS_GRACE) => {}
            () = signals.hurry("calls are cut off"), if !signals.hurried => {}
        }
    };
    server.stop(grace).await;
    drop(tunnels);
    close(session, signals).await.map(|()| end)
}

/// Watches the lease until the controller leases the exporter otherwise, and cancels `over` then. A
/// transferred lease has another client, which `transferred` gets.
async fn watch(
    mut assignment: watch::Receiver<Assignment>,
    mut leased: Leased,
    transferred: impl Fn(&Leased),
    over: CancellationToken,
) {
    loop {
        let is_other =
            |now: &Assignment| now.as_ref().is_some_and(|now| now.as_ref() != Some(&leased));
        let Ok(now) = assignment.wait_for(is_other).await.map(|now| (*now).clone()) else { return };
        match now.flatten() {
            Some(now) if now.lease == leased.lease => {
                transferred(&now);
                leased = now;
            }
            _ => return over.cancel(),
        }
    }
}

/// The life of a lease.
struct Life<'a> {
    lease: Lease<'a>,
    session: &'a Session,
    reporter: &'a Reporter,
    /// Whose lease it is: a transferred one has another client.
    client: watch::Receiver<String>,
    over: CancellationToken,
    leased: &'a Leased,
    has_hooks: bool,
}

impl Life<'_> {
    /// From the beforeLease hook to the end.
    async fn run(&mut self) -> End {
        if let Err(error) = self.lease.begin().await {
            self.go_offline().await;
            return End::Exit(error);
        }
        if self.session.state().get().status == ExporterStatus::BeforeLeaseHookFailed {
            self.give_back("Exporter available after lease release").await;
            return End::Over;
        }
        let is_ended_by_client = tokio::select! {
            () = self.session.ended() => true,
            () = self.over.cancelled() => false,
        };
        if let Err(error) = self.finish().await {
            self.go_offline().await;
            return End::Exit(error);
        }
        if is_ended_by_client {
            match self.has_hooks {
                true => self.give_back("Exporter available after lease release").await,
                // The client deletes the lease.
                false => self.over.cancelled().await,
            }
        }
        End::Over
    }

    /// Runs the afterLease hook for the client that has the lease now.
    async fn finish(&mut self) -> Result<()> {
        self.lease.set_client(&self.client.borrow());
        self.lease.finish().await
    }

    /// Releases the lease once clients have seen the state.
    async fn give_back(&self, message: &str) {
        tokio::select! {
            () = tokio::time::sleep(VISIBLE) => {}
            () = self.over.cancelled() => {}
        }
        if !self.over.is_cancelled() {
            self.reporter.release(&self.leased.lease).await;
        }
        self.session.state().set(ExporterStatus::Available, message);
    }

    /// Shows the failure, then that the exporter ends, until its client ends the lease.
    async fn go_offline(&self) {
        tokio::select! {
            () = tokio::time::sleep(VISIBLE) => {}
            () = self.over.cancelled() => {}
        }
        self.session.state().set(ExporterStatus::Offline, "Exporter shutting down");
        self.over.cancelled().await;
    }
}
